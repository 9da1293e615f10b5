"""Clients that ask until they know, and others that hang up before they can."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, NamedTuple

import httpx

from tests.support.app import AUTH
from tests.torture.record import Record

# Once the last fault has ended, a response must come within this time, on a busy machine too.
PATIENCE_SECS = 120.0
PAUSE_SECS = (0.05, 0.4)
TIMEOUTS_SECS = (1.0, 2.0, 5.0)
# The only ways to say "ask again": everything else is an answer.
ASK_AGAIN = {
    (503, "DATABASE_UNAVAILABLE"),
    (503, "SHUTTING_DOWN"),
    (409, "CONFLICT"),
    (409, "IDEMPOTENCY_IN_FLIGHT"),
    (503, "REVOCATION_UNAVAILABLE"),
    (503, "INGEST_BUSY"),
}
Headers = Mapping[str, str]


@dataclass(frozen=True)
class Request:
    """`kind` is the row of the report that it belongs to.

    `sign` makes further headers for each attempt. A `page` is for a browser: what comes back is its text.
    """

    kind: str
    method: str
    path: str
    body: bytes = b""
    headers: Headers = field(default_factory=lambda: AUTH)
    sign: Callable[[], Headers] = dict
    page: bool = False


class Answer(NamedTuple):
    """`unsure`: how many attempts before this one ended without anyone knowing what they did."""

    status: int
    body: Any
    headers: Headers
    port: int
    unsure: int = 0

    @property
    def replayed(self) -> bool:
        return "idempotency-replayed" in self.headers

    @property
    def code(self) -> str:
        return str(self.body.get("code", "")) if isinstance(self.body, dict) else ""


class Clients:
    """What every worker asks with; replicas are taken at random."""

    def __init__(self, ports: Sequence[int], record: Record) -> None:
        self.record = record
        self.deadline: float | None = None  # set when the last fault is mended
        self.ports = list(ports)
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))  # each browser keeps its own
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        self._http = httpx.AsyncClient(limits=limits, cookies=no_cookies)

    def port(self, dice: random.Random) -> int:
        return dice.choice(self.ports)

    async def close(self) -> None:
        await self._http.aclose()

    async def attempt(self, request: Request, dice: random.Random, port: int | None = None) -> Answer | None:
        """One answer, or None when nobody knows what became of it; `port` is a replica's, else any is asked."""
        port = port or self.port(dice)
        try:
            async with asyncio.timeout(dice.choice(TIMEOUTS_SECS)):
                given = await self._http.request(
                    request.method,
                    f"http://127.0.0.1:{port}{request.path}",
                    content=request.body,
                    headers={**request.headers, **request.sign()},
                    timeout=None,
                )
                body = given.text if request.page else given.json()
                response = Answer(given.status_code, body, given.headers, port)
        except (httpx.TransportError, TimeoutError, OSError):
            return None
        except ValueError:
            self.record.complain(request.kind, "wrong", f"{given.status_code} without JSON: {given.text[:200]}")
            return None
        asks_again = (response.status, response.code) in ASK_AGAIN
        if request.page:
            asks_again = response.status == 503 or "IDEMPOTENCY_IN_FLIGHT" in given.text
        if response.status >= 500 and not asks_again:
            self.record.complain(
                request.kind, "wrong", f"{request.method} {request.path}: {response.status} {given.text}"
            )
        return None if response.status >= 500 or asks_again else response

    @property
    def is_late(self) -> bool:
        """Return whether the time that a response may take after the last fault is over."""
        return self.deadline is not None and asyncio.get_running_loop().time() > self.deadline

    async def insist(self, request: Request, dice: random.Random, port: int | None = None) -> Answer | None:
        """Ask until told; None only when there is no answer long after everything was mended."""
        unsure = 0
        while (response := await self.attempt(request, dice, port)) is None:
            unsure += 1
            if self.is_late:
                self.record.complain(request.kind, "wrong", f"no answer to {request.method} {request.path}")
                return None
            await asyncio.sleep(dice.uniform(*PAUSE_SECS))
        return response._replace(unsure=unsure)

    async def vanish(self, request: Request, dice: random.Random) -> None:
        """Hang up somewhere in the request, or after it and before the answer."""
        headers = {**request.headers, **request.sign(), "Host": "cp", "Content-Length": str(len(request.body))}
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
