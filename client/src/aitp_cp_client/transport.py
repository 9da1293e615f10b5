"""HTTP calls and their retries."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import GenericAlias
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import quote, urlencode
from uuid import uuid4

import aiohttp
import msgspec
from yarl import URL

from aitp_cp_client.errors import ANSWER_INVALID, CUT_SHORT, TIMED_OUT, UNREACHABLE, ControlPlaneError
from aitp_cp_client.options import Retries, Timeouts, bearer
from aitp_cp_client.paging import Rows
from aitp_cp_client.version import __version__

USER_AGENT = f"aitp-control-plane-client/{__version__}"
MAX_REFUSAL_BYTES = 64 * 1024

Shape = TypeVar("Shape")
Params = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request. `path` is already escaped; `params` that are None are omitted.

    `repeatable`: the request is idempotent. `answers`: statuses besides 2xx that are not errors. `media`: the
    Content-Type that a response must have if its body is not decoded here.
    """

    method: str = "GET"
    path: str
    params: Params = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    gated: bool = True
    repeatable: bool = True
    answers: tuple[int, ...] = ()
    media: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def read(self, shape: type[Shape]) -> Shape:
        """Decode the body into this struct; raise `ControlPlaneError` if it does not fit."""
        return decoded(self.body, shape, self.status, self.headers.get("x-request-id"))


class _Page(Protocol):
    rows: list[Any]
    next_before: str | None


@cache
def _page(shape: Hashable, member: str) -> type[_Page]:
    """Return the struct of a page whose rows are in this member."""
    rows, cursor = ("rows", GenericAlias(list, (shape,))), ("next_before", str | None, None)
    names = {"rows": member, "next_before": "nextBefore"}
    return cast("type[_Page]", msgspec.defstruct("Page", (rows, cursor), rename=names))


class Transport:
    """The connection pool to a control plane. Only this class holds the API key."""

    def __init__(
        self,
        url: URL,
        api_key: str | None,
        *,
        timeouts: Timeouts,
        retries: Retries,
        proxy: URL | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.url = str(url).rstrip("/")
        self._retries = retries
        self._authorization = {} if api_key is None else {"Authorization": bearer(api_key)}
        self._timeouts = timeouts
        self._proxy = proxy
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:  # without the key
        return f"Transport({self.url})"

    async def send(self, call: Call) -> Response:
        """Send a request and return the whole response; raise `ControlPlaneError`."""
        limit = aiohttp.ClientTimeout(self._timeouts.answer_secs, sock_connect=self._timeouts.connect_secs)
        response = await self._opened(call, limit)
        try:
            body = await self._read(response, whole=True)
        finally:
            response.release()
        return Response(response.status, {name.lower(): value for name, value in response.headers.items()}, body)

    async def ask(self, shape: type[Shape], path: str, params: Params | None = None, *, gated: bool = True) -> Shape:
        """GET this path; return the response as this struct."""
        return (await self.send(Call(path=path, params=params or {}, gated=gated))).read(shape)

    async def page(
        self, shape: type[Shape], member: str, path: str, params: Params, *, gated: bool = True
    ) -> Rows[Shape]:
        """GET a page of a list; return the rows, which are in this member of the response."""
        page = await self.ask(_page(cast("Hashable", shape), member), path, params, gated=gated)
        return Rows(page.rows, page.next_before)

    async def create(self, shape: type[Shape], path: str, fields: Params, idempotency_key: str | None = None) -> Shape:
        """POST the fields under an idempotency key; return the response as this struct."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
        return (await self.send(Call(method="POST", path=path, headers=headers, body=encode(fields)))).read(shape)

    async def chunks(self, call: Call) -> AsyncGenerator[bytes, None]:
        """Yield a long response in chunks; retried only before the first chunk."""
        limit = aiohttp.ClientTimeout(
            None, sock_connect=self._timeouts.connect_secs, sock_read=self._timeouts.silence_secs
        )
        response = await self._opened(call, limit)
        try:
            while chunk := await self._read(response, whole=False):
                yield chunk
        finally:
            response.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _opened(self, call: Call, limit: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        attempt = 0
        request_id = uuid4().hex
        while True:
            outcome = await self._attempt(call, limit, request_id)
            if isinstance(outcome, aiohttp.ClientResponse):
                return outcome
            wait = self._retries.wait(outcome, repeatable=call.repeatable, attempt=attempt)
            if wait is None:
                raise outcome
            await asyncio.sleep(wait)
            attempt += 1

    async def _attempt(
        self, call: Call, limit: aiohttp.ClientTimeout, request_id: str
    ) -> aiohttp.ClientResponse | ControlPlaneError:
        """Send once. A failure is returned: raised here, its `__context__` would hold the request headers."""
        headers = {"X-Request-Id": request_id, **(self._authorization if call.gated else {}), **call.headers}
        if call.body is not None:
            headers.setdefault("Content-Type", "application/json")
        try:
            response = await self._open().request(
                call.method,
                URL(f"{self.url}{call.path}{_query(call.params)}", encoded=True),
                headers=headers,
                data=call.body,
                allow_redirects=False,
                proxy=self._proxy,
                timeout=limit,
            )
        except (aiohttp.ClientError, OSError, ValueError) as failure:  # TimeoutError is an OSError
            return ControlPlaneError(*_reason(failure, limit), request_id=request_id)
        if response.status >= 300 and response.status not in call.answers:
            return await _refusal(response, request_id)
        if call.media is not None and response.content_type != call.media:
            response.close()
            return _unexpected_response(response.status, response.headers.get("x-request-id", request_id))
        return response

    async def _read(self, response: aiohttp.ClientResponse, *, whole: bool) -> bytes:
        try:
            return await response.read() if whole else await response.content.readany()
        except TimeoutError:
            failed = TIMED_OUT, "the control plane stopped sending in the middle of its response"
        except (aiohttp.ClientError, OSError):
            failed = CUT_SHORT, "the connection was closed in the middle of the response"
        raise ControlPlaneError(*failed, status=response.status, request_id=response.headers.get("x-request-id"))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # `trust_env` would also read credentials from .netrc, so `proxy_of_environment` reads the proxies instead.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls or True),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                headers={"User-Agent": USER_AGENT, "Accept": "application/json, */*;q=0.1"},
            )
        return self._session


def segment(text: object) -> str:
    """Escape one segment of a path."""
    return quote(str(text), safe="")


def encode(fields: Params) -> bytes:
    """Encode the members that are not None as a JSON object."""
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not None})


def decoded(body: bytes | str, shape: type[Shape], status: int = 200, request_id: str | None = None) -> Shape:
    """Decode JSON into this struct; raise `ControlPlaneError` if it does not fit."""
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    raise _unexpected_response(status, request_id)


def _query(params: Params) -> str:
    query = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in params.items()
        if value is not None
    }
    return f"?{urlencode(query)}" if query else ""


async def _refusal(response: aiohttp.ClientResponse, request_id: str) -> ControlPlaneError:
    """Build the error from a response that is not a success."""
    request_id = response.headers.get("x-request-id", request_id)
    try:
        body = msgspec.json.decode(await _read_error_body(response), type=dict[str, Any])
        code, message = msgspec.convert((body.pop("code"), body.pop("error")), tuple[str, str])
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError):
        return _unexpected_response(response.status, request_id, _retry_after(response))
    return ControlPlaneError(
        code,
        message,
        status=response.status,
        request_id=request_id,
        retry_after=_retry_after(response),
        extra=body,
    )


async def _read_error_body(response: aiohttp.ClientResponse) -> bytes:
    """Return the received part of an error body, at most about MAX_REFUSAL_BYTES."""
    body = bytearray()
    try:
        while len(body) < MAX_REFUSAL_BYTES and (chunk := await response.content.readany()):
            body += chunk
    except (aiohttp.ClientError, OSError):
        pass
    finally:
        response.close()
    return bytes(body)


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 9 else None


def _unexpected_response(status: int, request_id: str | None, retry_after: float | None = None) -> ControlPlaneError:
    kind = "a redirect" if 300 <= status < 400 else "an unexpected body"
    message = f"the server answered {status} with {kind}; is the URL right?"
    return ControlPlaneError(ANSWER_INVALID, message, status=status, request_id=request_id, retry_after=retry_after)


def _reason(failure: Exception, limit: aiohttp.ClientTimeout) -> tuple[str, str]:
    """Return code and sentence. The library's own text may hold addresses, headers or a proxy's password."""
    match failure:
        case aiohttp.ConnectionTimeoutError():
            return UNREACHABLE, f"no connection within {limit.sock_connect:g} s"
        case TimeoutError():
            return TIMED_OUT, "no response in time"
        case aiohttp.ClientConnectorCertificateError():
            return UNREACHABLE, "the TLS certificate is not valid"
        case aiohttp.ClientSSLError():
            return UNREACHABLE, "the TLS handshake failed"
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return UNREACHABLE, "the proxy of the environment did not connect"
        case aiohttp.ClientConnectorDNSError():
            return UNREACHABLE, "the host name of the control plane cannot be resolved"
        case aiohttp.ClientConnectorError() if isinstance(failure.os_error, ConnectionRefusedError):
            return UNREACHABLE, "the connection was refused"
        case aiohttp.ClientConnectorError():
            return UNREACHABLE, "the connection could not be made"
        case aiohttp.ServerDisconnectedError() | OSError():
            return CUT_SHORT, "the connection was closed before a response"
        case aiohttp.ClientError():
            return ANSWER_INVALID, "the response is not valid HTTP"
    return ANSWER_INVALID, "the request cannot be written as HTTP"
