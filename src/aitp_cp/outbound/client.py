"""The only way out of this process to a URL that somebody else chose (contract, section 12, SSRF guard)."""

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import aiohttp

from aitp_cp import __version__
from aitp_cp.errors import AppError
from aitp_cp.outbound.model import Policy, Refused, Reply, Target, Unreachable
from aitp_cp.outbound.policy import check_url
from aitp_cp.outbound.resolver import CheckedResolver, Lookup, SystemLookup, check_resolved

USER_AGENT = f"aitp-control-plane/{__version__}"
LOOKUP_SECS = 5.0

# Told of every request that has ended: method, where it went and how it was answered, how many seconds that took, how
# it failed; never of a path, a query, a header or a body, for those hold secrets.
OnCall = Callable[[str, Mapping[str, str | int], float, BaseException | None], None]


class GuardedClient:
    """One session per process, opened on first use. Every connection is a new one, to an address checked for it."""

    def __init__(
        self,
        policy: Policy,
        *,
        lookup: Lookup | None = None,
        tls: ssl.SSLContext | None = None,
        on_call: OnCall | None = None,
    ) -> None:
        self._policy = policy
        self._on_call = on_call
        self._lookup = lookup or SystemLookup()
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def check_destination(self, url: str) -> None:
        """For URLs about to be stored: raises `BodyInvalid` or `UrlNotAllowed`; a name must resolve."""
        target = check_url(url, self._policy)
        if target.literal is None:
            await check_resolved(target.host, self._policy, self._lookup, LOOKUP_SECS)

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline_secs: float,
        max_bytes: int,
    ) -> Reply:
        """One request, without proxies, redirects, cookies or decompression.

        The deadline covers name, connection, TLS and answer. Of the answer's body at most `max_bytes` are read.
        Raises `Refused` (never try again) or `Unreachable` (no answer this time).
        """
        target = self._target(url)
        exchange = _Exchange(max_bytes)
        with self._told(method, target, exchange):
            try:
                async with asyncio.timeout(deadline_secs):
                    await exchange.run(self._open(), method, target, headers, body)
            except TimeoutError:
                exchange.fail(f"no answer within {deadline_secs:g} s")
            except (aiohttp.ClientError, OSError) as failure:
                exchange.fail(_reason(failure))
            except ValueError:
                raise Refused("the request cannot be written as HTTP") from None
        return exchange.reply()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    @contextmanager
    def _told(self, method: str, target: Target, exchange: "_Exchange") -> Iterator[None]:
        if self._on_call is None:
            yield
            return
        began, failed = time.perf_counter(), None
        try:
            yield
        except BaseException as failure:
            failed = failure
            raise
        finally:
            where: dict[str, str | int] = {"server.address": target.host, "server.port": target.port}
            self._on_call(method, where | exchange.outcome(), time.perf_counter() - began, failed)

    def _target(self, url: str) -> Target:
        try:
            return check_url(url, self._policy)
        except AppError as refused:
            raise Refused(refused.message) from None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=CheckedResolver(self._policy, self._lookup),
                use_dns_cache=False,
                force_close=True,
                limit=0,
                ssl=self._tls or ssl.create_default_context(),
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            )
        return self._session


class _Exchange:
    """What has arrived of one answer, whatever happens next."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._response: aiohttp.ClientResponse | None = None
        self._body = bytearray()
        self._complete = False

    async def run(
        self,
        session: aiohttp.ClientSession,
        method: str,
        target: Target,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> None:
        async with session.request(method, target.url, headers=headers, data=body, allow_redirects=False) as response:
            self._response = response
            async for chunk in response.content.iter_any():
                self._body += chunk
                if len(self._body) > self._max_bytes:
                    return
            self._complete = True

    def fail(self, reason: str) -> None:
        if self._response is None:
            raise Unreachable(reason) from None

    def outcome(self) -> dict[str, int]:
        return {} if self._response is None else {"http.response.status_code": self._response.status}

    def reply(self) -> Reply:
        assert self._response is not None
        return Reply(
            self._response.status, self._response.headers, bytes(self._body[: self._max_bytes]), self._complete
        )


def _reason(failure: Exception) -> str:
    """A sentence for the delivery log: the failure's own text may hold the URL."""
    if isinstance(failure, aiohttp.ClientConnectorCertificateError):
        return "the TLS certificate is not valid"
    if isinstance(failure, aiohttp.ClientSSLError):
        return "the TLS handshake failed"
    if isinstance(failure, aiohttp.ClientConnectorError):
        refused = isinstance(failure.os_error, ConnectionRefusedError)
        return "the connection was refused" if refused else "the connection could not be made"
    if isinstance(failure, aiohttp.ServerDisconnectedError | OSError):
        return "the connection was closed before an answer"
    return "the answer is not valid HTTP"
