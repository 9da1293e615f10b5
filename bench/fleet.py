"""The agents that take part, and what they report: handshakes that both sides tell of, tokens, invocations."""

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from uuid import uuid4

from bench.load import request
from tests.support.agents import new_agent, sdk_manifest
from tests.support.app import API_KEY

AGENTS = 1000
RARE = 5
RARE_CAPABILITY = "bench.rare"
KEY = {"authorization": f"Bearer {API_KEY}"}
INVOCATIONS_PER_SESSION = 7


def manifests(count: int) -> list[tuple[str, bytes]]:
    """AIDs and signed manifests; five of a thousand offer the capability that is asked for."""
    with ProcessPoolExecutor() as pool:
        return list(pool.map(_manifest, range(count), chunksize=50))


def _manifest(number: int) -> tuple[str, bytes]:
    agent = new_agent()
    caps = [RARE_CAPABILITY] if number % (AGENTS // RARE) == 0 else ["bench.common"]
    return agent.aid, sdk_manifest(agent, name=f"agent {number}", caps=caps)


def events(aids: Sequence[str]) -> Iterator[dict[str, object]]:
    """Never the same twice; per session one start, two completions with a token each, and seven invocations."""
    for number in itertools.count():
        one, other = aids[number % len(aids)], aids[(7 * number + 1) % len(aids)]
        session = str(uuid4())
        yield _event("handshake.started", one, other, session, {"boundary": "same-org"})
        for holder, issuer, role in ((one, other, "initiator"), (other, one, "responder")):
            claims = {"jti": str(uuid4()), "iss": issuer, "sub": holder, "grants": ["cap.read"], "exp": _in_an_hour()}
            payload = {"boundary": "same-org", "role": role, "tct": {"claims": claims}}
            yield _event("handshake.complete", one, other, session, payload)
        for call in range(INVOCATIONS_PER_SESSION):
            payload = {"capability": f"demo.{call}", "input": {"text": "something said by an agent", "n": number}}
            yield _event("capability.invoked", one, other, session, payload)


def _in_an_hour() -> int:
    return int(time.time()) + 3600


def _event(kind: str, one: str, other: str, session: str, payload: dict[str, object]) -> dict[str, object]:
    return {
        "type": kind,
        "ts": time.time(),
        "aid_a": one,
        "aid_b": other,
        "session_id": session,
        "run_id": "bench",
        "payload": payload,
    }


def batches(aids: Sequence[str], size: int, count: int) -> list[bytes]:
    """The bodies of `count` reports of `size` events each."""
    stream = events(aids)
    return [json.dumps(list(itertools.islice(stream, size))).encode() for _ in range(count)]


def report(body: bytes) -> bytes:
    return request("POST", "/api/events", body, **KEY)
