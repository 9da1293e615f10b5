"""One HTTP call, and when it is tried again."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote, urlencode
from uuid import uuid4

import aiohttp
import msgspec
from yarl import URL

from aitp_cp_client.errors import ANSWER_INVALID, CUT_SHORT, TIMED_OUT, UNREACHABLE, ControlPlaneError
from aitp_cp_client.options import Retries, Timeouts, bearer
from aitp_cp_client.version import __version__

USER_AGENT = f"aitp-control-plane-client/{__version__}"
MAX_REFUSAL_BYTES = 64 * 1024

Shape = TypeVar("Shape")
Params = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What to ask. `path` is escaped already; of `params` those that are None are left out.

    `repeatable`: asking twice does no more than asking once. `answers`: statuses beside 2xx that are no errors.
    `media`: what an answer must say it is whose bytes are handed on, for nobody here would notice another one.
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
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def read(self, shape: type[Shape]) -> Shape:
        """The body as this struct; raises `ControlPlaneError`."""
        return decoded(self.body, shape, self.status, self.headers.get("x-request-id"))


class Transport:
    """One connection pool to one control plane; the only holder of the API key."""

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

    async def send(self, call: Call) -> Answer:
        """The whole answer; raises `ControlPlaneError`."""
        limit = aiohttp.ClientTimeout(self._timeouts.answer_secs, sock_connect=self._timeouts.connect_secs)
        response = await self._opened(call, limit)
        try:
            body = await self._read(response, whole=True)
        finally:
            response.release()
        return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, body)

    async def ask(self, shape: type[Shape], path: str, params: Params | None = None, *, gated: bool = True) -> Shape:
        """GET as this struct."""
        return (await self.send(Call(path=path, params=params or {}, gated=gated))).read(shape)

    async def chunks(self, call: Call) -> AsyncGenerator[bytes, None]:
        """A long answer piece by piece; it is tried again only before its first piece."""
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
        """Failures come back as values: one raised here would carry the library's own, and that one the headers."""
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
            return _not_ours(response.status, response.headers.get("x-request-id", request_id))
        return response

    async def _read(self, response: aiohttp.ClientResponse, *, whole: bool) -> bytes:
        try:
            return await response.read() if whole else await response.content.readany()
        except TimeoutError:
            failed = TIMED_OUT, "the control plane stopped sending in the middle of its answer"
        except (aiohttp.ClientError, OSError):
            failed = CUT_SHORT, "the connection was closed in the middle of the answer"
        raise ControlPlaneError(*failed, status=response.status, request_id=response.headers.get("x-request-id"))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Taking credentials from .netrc comes with the library's own reading of proxies, so that stays off.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls or True),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                headers={"User-Agent": USER_AGENT, "Accept": "application/json, */*;q=0.1"},
            )
        return self._session


def segment(text: object) -> str:
    """One segment of a path, escaped."""
    return quote(str(text), safe="")


def encode(fields: Params) -> bytes:
    """A JSON object of those members that are not None."""
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not None})


def decoded(body: bytes | str, shape: type[Shape], status: int = 200, request_id: str | None = None) -> Shape:
    """JSON as this struct; raises `ControlPlaneError`."""
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    raise _not_ours(status, request_id)


def _query(params: Params) -> str:
    given = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in params.items()
        if value is not None
    }
    return f"?{urlencode(given)}" if given else ""


async def _refusal(response: aiohttp.ClientResponse, request_id: str) -> ControlPlaneError:
    """The error that an answer other than success stands for."""
    request_id = response.headers.get("x-request-id", request_id)
    try:
        said = msgspec.json.decode(await _beginning(response), type=dict[str, Any])
        code, message = msgspec.convert((said.pop("code"), said.pop("error")), tuple[str, str])
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError):
        return _not_ours(response.status, request_id, _retry_after(response))
    return ControlPlaneError(
        code,
        message,
        status=response.status,
        request_id=request_id,
        retry_after=_retry_after(response),
        extra=said,
    )


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """As much of an error's body as came."""
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
    given = response.headers.get("retry-after", "")
    return float(given) if given.isascii() and given.isdigit() and len(given) < 9 else None


def _not_ours(status: int, request_id: str | None, retry_after: float | None = None) -> ControlPlaneError:
    kind = "a redirect" if 300 <= status < 400 else "something that no control plane says"
    message = f"the server answered {status} with {kind}; is the URL right?"
    return ControlPlaneError(ANSWER_INVALID, message, status=status, request_id=request_id, retry_after=retry_after)


def _reason(failure: Exception, limit: aiohttp.ClientTimeout) -> tuple[str, str]:
    """Code and sentence: the failure's own text may hold addresses, headers or a proxy's password."""
    match failure:
        case aiohttp.ConnectionTimeoutError():
            return UNREACHABLE, f"no connection within {limit.sock_connect:g} s"
        case TimeoutError():
            return TIMED_OUT, "no answer in time"
        case aiohttp.ClientConnectorCertificateError():
            return UNREACHABLE, "the TLS certificate is not valid"
        case aiohttp.ClientSSLError():
            return UNREACHABLE, "the TLS handshake failed"
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return UNREACHABLE, "the proxy that the environment names did not connect"
        case aiohttp.ClientConnectorDNSError():
            return UNREACHABLE, "the name of the control plane's host is not known"
        case aiohttp.ClientConnectorError() if isinstance(failure.os_error, ConnectionRefusedError):
            return UNREACHABLE, "the connection was refused"
        case aiohttp.ClientConnectorError():
            return UNREACHABLE, "the connection could not be made"
        case aiohttp.ServerDisconnectedError() | OSError():
            return CUT_SHORT, "the connection was closed before an answer"
        case aiohttp.ClientError():
            return ANSWER_INVALID, "the answer is not valid HTTP"
    return ANSWER_INVALID, "the request cannot be written as HTTP"
