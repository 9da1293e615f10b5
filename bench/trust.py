"""What is verified and cut off: signed tokens, signed reports, bulk revocation, containment, and the reporter."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from aitp_cp_client.signing import Request, SigningKey, signed_headers
from bench import containment, reporter, writes
from bench.fleet import KEY, batches, events, report
from bench.load import HOST, Outcome, ask, drive, request
from bench.report import NOTHING, Row, Target, http_row
from bench.servers import Running, serving
from tests.support.agents import Agent, claims_in, handshake, new_agent, sdk_manifest

SIZE, CONNECTIONS, SECONDS = 50, 8, 4.0
PREPARED = 400  # batches, more than are sent in the time
REVOKED_AT_ONCE = 1000
TOKENS = 10_000
READERS = 32


async def measure(server: Running, aids: Sequence[str], dsn: str, folder: Path) -> AsyncIterator[Row]:
    """All rows; containment and the reporter have a process of their own."""
    yield await verified(server, aids)
    yield await known(server, aids)
    yield await signed(server)
    yield await read_while_written(server, aids)
    for row in await contain(dsn, folder):
        yield row
    with serving(dsn, folder / "reporter.log") as process:
        yield await asyncio.to_thread(_reporter, process)
    yield await revoke_many(server)  # last: it makes the signed list long


async def _ingest(server: Running, what: str, bodies: Iterator[bytes], target: Target = NOTHING) -> Row:
    before = server.cpu_secs()
    outcome = await drive(server.port, bodies, connections=CONNECTIONS, seconds=SECONDS)
    return http_row(what, outcome, target, server.cpu_secs() - before, unit="events/s", times=SIZE)


async def verified(server: Running, aids: Sequence[str]) -> Row:
    """Ten of fifty events carry a signed token, as agents report handshakes."""
    bodies = await asyncio.to_thread(_signed_batches, aids, PREPARED)
    what = f"`POST /api/events`, {SIZE} per batch, 10 signed tokens in each, all new"
    row = await _ingest(server, what, map(report, bodies))
    tokens = await _get(server, "/api/tcts?limit=1")
    assert tokens["tcts"][0]["verdict"] == "verified"
    return row


async def known(server: Running, aids: Sequence[str]) -> Row:
    """The same tokens again in other events, as the second side of a handshake reports them."""
    bodies = await asyncio.to_thread(_signed_batches, aids, PREPARED, 20)
    await drive(server.port, map(report, bodies[:20]), connections=CONNECTIONS, seconds=SECONDS)
    return await _ingest(server, "the same, all tokens known", map(report, bodies[20:]))


def _signed_batches(aids: Sequence[str], count: int, distinct: int | None = None) -> list[bytes]:
    """Batches whose tokens are signed; with `distinct` only the tokens of so many batches, again and again."""
    issuer, holder = new_agent(), new_agent()
    received = handshake(holder, issuer).initiator.token
    tokens = _tokens(issuer, received, holder)
    if distinct is not None:
        tokens = itertools.cycle(list(itertools.islice(tokens, distinct * SIZE // 5)))
    return [json.dumps(_with_tokens(batch, tokens)).encode() for batch in _batches(aids, count)]


def _batches(aids: Sequence[str], count: int) -> Iterator[list[dict[str, object]]]:
    stream = events(aids)
    return (list(itertools.islice(stream, SIZE)) for _ in range(count))


def _with_tokens(batch: list[dict[str, object]], tokens: Iterator[tuple[str, dict[str, object]]]) -> object:
    for event in batch:
        payload = event["payload"]
        assert isinstance(payload, dict)
        if "tct" in payload:
            token, claims = next(tokens)
            payload["tct"] = {"token": token, "claims": claims}
            event["aid_a"], event["aid_b"] = claims["iss"], claims["sub"]
    return batch


def _tokens(issuer: Agent, like: str, holder: Agent) -> Iterator[tuple[str, dict[str, object]]]:
    """Tokens such as the SDK issues, each with a jti of its own."""
    template = claims_in(like)
    if template["iss"] != issuer.aid:
        issuer = holder
    while True:
        claims = {**template, "jti": str(uuid4()), "exp": int(time.time()) + 3600}
        yield issuer.sign_jws("aitp-tct+jwt", claims), claims


async def signed(server: Running) -> Row:
    """Reports signed by eight agents, each request with a signature of its own (RFC 9421)."""
    agents = [new_agent() for _ in range(CONNECTIONS)]
    await writes.enrol_all(server.port, iter([(a.aid, sdk_manifest(a)) for a in agents]), Outcome())
    audience = (await _get(server, "/.well-known/aitp-manifest"))["manifest"]["aid"]
    keys = [SigningKey.from_seed(agent.seed) for agent in agents]
    own = [
        batches([agent.aid, other.aid], SIZE, PREPARED // CONNECTIONS) for agent, other in itertools.pairwise(agents)
    ]
    bodies = [(key, body) for key, bodies in zip(keys, own, strict=False) for body in bodies]
    requests = [_signed(key, body, audience) for key, body in bodies]
    return await _ingest(server, f"`POST /api/events`, {SIZE} per batch, signed by the agent", iter(requests))


def _signed(key: SigningKey, body: bytes, audience: str) -> bytes:
    headers = signed_headers(key, Request("/api/events", body), audience)
    headers.pop("Content-Type")
    return request("POST", "/api/events", body, **headers)


async def _get(server: Running, path: str) -> Any:
    reader, writer = await asyncio.open_connection(HOST, server.port)
    _, response = await ask(reader, writer, request("GET", path, **KEY))
    writer.close()
    return json.loads(response)


async def revoke_many(server: Running) -> Row:
    """A thousand ids in one request."""
    bodies = (
        json.dumps({"jtis": [str(uuid4()) for _ in range(REVOKED_AT_ONCE)], "reason": "bench"}).encode()
        for _ in itertools.count()
    )
    requests = (request("POST", "/api/revocation/entries", body, **KEY) for body in bodies)
    before = server.cpu_secs()
    outcome = await drive(server.port, requests, connections=2, seconds=SECONDS)
    what = f"`POST /api/revocation/entries`, {REVOKED_AT_ONCE:,} ids per request"
    spent = server.cpu_secs() - before
    return http_row(what, outcome, NOTHING, spent, unit="entries/s", times=REVOKED_AT_ONCE)


async def read_while_written(server: Running, aids: Sequence[str]) -> Row:
    """Peers look agents up, a thousand in turn, while two reporters send batches as fast as they are taken."""
    lookups = itertools.cycle([request("GET", f"/api/registry/agents/{aid.replace(':', '%3A')}") for aid in aids])
    written = drive(server.port, map(report, batches(aids, SIZE, PREPARED)), connections=2, seconds=SECONDS)
    writing = asyncio.create_task(written)
    before = server.cpu_secs()
    outcome = await drive(server.port, lookups, connections=READERS, seconds=SECONDS)
    spent = server.cpu_secs() - before
    batched = (await writing).rate * SIZE
    row = http_row("1,000 agents read in turn, while batches of 50 are written", outcome, NOTHING, spent)
    return replace(row, note=f"beside {batched:,.0f} events/s")


async def contain(dsn: str, folder: Path) -> list[Row]:
    with serving(dsn, folder / "contain.log") as process:
        took = await containment.measure(dsn, process.port, TOKENS)
    what = f"contain an agent with {TOKENS:,} tokens"
    return [
        Row(f"{what}: answered", "s", took["answered"], Target(at_most=2)),
        Row(f"{what}: all in the signed list", "s", took["listed"], Target(at_most=1)),
        Row(f"{what}: slowest report of others", "s", took["slowest report"], Target(at_most=1)),
    ]


def _reporter(process: Running) -> Row:
    """`report()` calls of one thread, kept in memory until they are sent."""
    _, calls, longest, _, sent = reporter.rate(f"http://127.0.0.1:{process.port}", None)
    rate = float(calls.replace(",", ""))
    return Row(
        "reporter library: `report()` from one thread",
        "calls/s",
        rate,
        Target(rate=20_000),
        note=f"longest {longest} ms, sent after {sent} s",
    )
