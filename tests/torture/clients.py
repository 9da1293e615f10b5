"""Clients that ask until they know, and others that hang up before they can."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx

from tests.support.app import AUTH
from tests.torture.record import Record

# After the last fault is mended an answer must come within this time.
PATIENCE_SECS = 60.0
PAUSE_SECS = (0.05, 0.4)
TIMEOUTS_SECS = (1.0, 2.0, 5.0)
# The only ways to say "ask again": everything else is an answer.
ASK_AGAIN = {
    (503, "DATABASE_UNAVAILABLE"),
    (503, "SHUTTING_DOWN"),
    (409, "CONFLICT"),
    (409, "IDEMPOTENCY_IN_FLIGHT"),
    (503, "REVOCATION_UNAVAILABLE"),
}


@dataclass(frozen=True)
class Request:
    """`kind` is the row of the report that it belongs to."""

    kind: str
    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: AUTH)


class Answer(NamedTuple):
    """`unsure`: how many attempts before this one ended without anyone knowing what they did."""

    status: int
    body: Any
    replayed: bool = False
    unsure: int = 0

    @property
    def code(self) -> str:
        return str(self.body.get("code", "")) if isinstance(self.body, dict) else ""


class Clients:
    """What every worker asks with; replicas are taken at random."""

    def __init__(self, ports: Sequence[int], record: Record) -> None:
        self.record = record
        self.deadline: float | None = None  # set when the last fault is mended
        self._ports = list(ports)
        self._http = httpx.AsyncClient(limits=httpx.Limits(max_connections=None, max_keepalive_connections=20))

    def url(self, dice: random.Random) -> str:
        return f"http://127.0.0.1:{self.port(dice)}"

    def port(self, dice: random.Random) -> int:
        return dice.choice(self._ports)

    async def close(self) -> None:
        await self._http.aclose()

    async def attempt(self, request: Request, dice: random.Random) -> Answer | None:
        """One answer, or None when nobody knows what became of it."""
        try:
            async with asyncio.timeout(dice.choice(TIMEOUTS_SECS)):
                given = await self._http.request(
                    request.method,
                    self.url(dice) + request.path,
                    content=request.body,
                    headers=dict(request.headers),
                    timeout=None,
                )
                answer = Answer(given.status_code, given.json(), "idempotency-replayed" in given.headers)
        except (httpx.TransportError, TimeoutError, OSError):
            return None
        except ValueError:
            self.record.complain(request.kind, "wrong", f"{given.status_code} without JSON: {given.text[:200]}")
            return None
        if answer.status >= 500 and (answer.status, answer.code) not in ASK_AGAIN:
            self.record.complain(
                request.kind, "wrong", f"{request.method} {request.path}: {answer.status} {given.text}"
            )
        return None if answer.status >= 500 or (answer.status, answer.code) in ASK_AGAIN else answer

    async def insist(self, request: Request, dice: random.Random) -> Answer | None:
        """Ask until told; None only when there is no answer long after everything was mended."""
        unsure = 0
        while (answer := await self.attempt(request, dice)) is None:
            unsure += 1
            if self.deadline is not None and asyncio.get_running_loop().time() > self.deadline:
                self.record.complain(request.kind, "wrong", f"no answer to {request.method} {request.path}")
                return None
            await asyncio.sleep(dice.uniform(*PAUSE_SECS))
        return answer._replace(unsure=unsure)

    async def vanish(self, request: Request, dice: random.Random) -> None:
        """Hang up somewhere in the request, or after it and before the answer."""
        headers = {**request.headers, "Host": "cp", "Content-Length": str(len(request.body))}
        lines = [f"{request.method} {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        whole = "\r\n".join([*lines, "", ""]).encode() + request.body
        sent = whole if dice.random() < 0.6 else whole[: dice.randrange(len(whole))]
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(3):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port(dice))
                try:
                    writer.write(sent)
                    await writer.drain()
                    await asyncio.sleep(dice.choice([0, 0.002, 0.02]))
                finally:
                    writer.transport.abort()
        self.record.faults["client vanished in a request"] += 1
