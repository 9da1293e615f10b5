"""HTTP for the checks: raw bytes and headers, no redirects, and waiting for rate limits."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
from multidict import CIMultiDictProxy
from yarl import URL

from aitp_cp_conformance import __version__
from aitp_cp_conformance.model import Broken, Skipped

TIMEOUT_SECS = 20
# Shorter than the idle timeout of common servers, so that no request meets a closing connection.
KEEPALIVE_SECS = 3
SHOWN_BYTES = 200

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """A response, with its request."""

    request: str
    sent: bytes
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    at: float

    def __str__(self) -> str:
        # A successful response may hold a webhook's secret or an agent's token: show errors only.
        shown = _excerpt(self.body) if self.status >= 400 else ""
        return f"{self.request}{_excerpt(self.sent)} answered {self.status}{shown}"

    def refused_with(self, code: str) -> bool:
        """Return whether it is a 403 with this code."""
        return self.status == 403 and f'"{code}"'.encode() in self.body

    @property
    def json(self) -> Any:
        """The decoded body; raises `Broken` unless body and Content-Type are JSON."""
        if self.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise Broken(f"{self}; its Content-Type is {self.headers.get('content-type')!r}, not application/json")
        try:
            return json.loads(self.body)
        except ValueError:
            raise Broken(f"{self}; its body is not JSON") from None

    def ok(self, status: int = 200) -> Any:
        """Return the decoded body; raise `Broken` unless the status is this one."""
        if self.status != status:
            raise Broken(f"{self}, not {status}")
        return self.json


class Wire:
    """An HTTP session; keeps the first 429 of each bucket."""

    def __init__(self, session: aiohttp.ClientSession, base: str, patience_secs: float) -> None:
        self._session = session
        self._base = base.rstrip("/")
        self.patience_secs = patience_secs
        self.refused: dict[str, Response] = {}
        self.on_wait: Callable[[str], None] = lambda _: None
        self.on_answer: Callable[[Response], None] = lambda _: None

    async def send(self, method: str, target: str, body: Any, headers: Headers) -> Response:
        """Send a request, and again after each 429.

        Raises `Skipped` when the waits exceed `patience_secs`, and for reports where only agents may report.
        """
        while True:
            response = await self.send_once(method, target, body, headers)
            if response.refused_with("SIGNATURE_REQUIRED"):
                raise Skipped("only agents may report: TELEMETRY=require")
            if response.status != 429:
                return response
            await self._wait_for_rate_limit(response)

    async def send_once(self, method: str, target: str, body: Any, headers: Headers) -> Response:
        """Send a request once; raise `Broken` without a response. A callable body is called for the content."""
        content = body() if callable(body) else body
        try:
            async with self._session.request(
                method, self._url(target), data=content, headers=headers, allow_redirects=False
            ) as received:
                raw = await received.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            raise Broken(f"{method} {target} got no response ({type(failure).__name__})") from failure
        sent = content if isinstance(content, bytes) else b""
        response = Response(f"{method} {target}", sent, received.status, received.headers, raw, time.time())
        if response.status == 429:
            self.refused.setdefault(_bucket(response), response)
        self.on_answer(response)
        return response

    @asynccontextmanager
    async def open(self, target: str, headers: Headers) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open a response that the caller reads as a stream."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_SECS)
        try:
            async with self._session.get(self._url(target), headers=headers, timeout=timeout) as response:
                yield response
        except (aiohttp.ClientError, OSError) as failure:
            raise Broken(f"GET {target} broke off ({type(failure).__name__})") from failure

    def _url(self, target: str) -> URL:
        return URL(self._base + target, encoded=True)

    async def _wait_for_rate_limit(self, response: Response) -> None:
        bucket, wait = _bucket(response), _retry_after(response)
        if wait > self.patience_secs:
            raise Skipped(f"the rate limit {bucket} needs more --patience")
        self.patience_secs -= wait
        self.on_wait(f"waiting {wait:.0f} s for the rate limit {bucket}")
        await asyncio.sleep(wait)


class Caller:
    """Calls with the same credentials; a dict or a list is sent as JSON."""

    def __init__(self, wire: Wire, credentials: Headers) -> None:
        self.wire = wire
        self.credentials = credentials

    def with_key(self, key: str) -> "Caller":
        return Caller(self.wire, {"Authorization": f"Bearer {key}"})

    async def call(self, method: str, path: str, body: Any = None, headers: Headers | None = None) -> Response:
        content = msgspec.json.encode(body) if isinstance(body, (dict, list)) else body
        described = {} if content is None else {"Content-Type": "application/json"}
        return await self.wire.send(method, path, content, {**self.credentials, **described, **(headers or {})})

    async def get(self, path: str, headers: Headers | None = None, /, **query: object) -> Response:
        return await self.call("GET", with_query(path, query), None, headers)

    async def post(self, path: str, body: Any = None, headers: Headers | None = None) -> Response:
        return await self.call("POST", path, body, headers)

    async def patch(self, path: str, body: Any) -> Response:
        return await self.call("PATCH", path, body)

    async def put(self, path: str, body: Any) -> Response:
        return await self.call("PUT", path, body)

    async def delete(self, path: str, /, **query: object) -> Response:
        return await self.call("DELETE", with_query(path, query))

    async def preflight(self, path: str, headers: Headers) -> Response:
        return await self.call("OPTIONS", path, None, headers)


def with_query(path: str, query: Mapping[str, object]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


@asynccontextmanager
async def open_wire(url: str, patience_secs: float) -> AsyncIterator[Wire]:
    """Yield an HTTP session to the deployment at `url`."""
    connector = aiohttp.TCPConnector(limit=32, keepalive_timeout=KEEPALIVE_SECS)
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECS),
        headers={"User-Agent": f"aitp-cp-conformance/{__version__}"},
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=True,
    ) as session:
        yield Wire(session, url, patience_secs)


def _excerpt(content: bytes) -> str:
    return f" {content[:SHOWN_BYTES].decode(errors='replace')}" if content else ""


def _bucket(response: Response) -> str:
    try:
        body = json.loads(response.body)
    except ValueError:
        return "unnamed"
    return str(body.get("bucket", "unnamed")) if isinstance(body, dict) else "unnamed"


def _retry_after(response: Response) -> float:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else 1.0
