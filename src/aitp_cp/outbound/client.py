"""The only client for URLs that somebody else chose (contract, section 12, SSRF guard)."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from socket import AF_INET, AF_INET6, IPPROTO_TCP, SOCK_STREAM

from aiohappyeyeballs import AddrInfoType, start_connection

from aitp_cp import __version__
from aitp_cp.errors import AppError, HostUnresolved
from aitp_cp.outbound import http1, tls
from aitp_cp.outbound.model import Address, Policy, Refused, Reply, Target, Unreachable
from aitp_cp.outbound.policy import check_url
from aitp_cp.outbound.resolver import Lookup, SystemLookup, resolve

USER_AGENT = f"aitp-control-plane/{__version__}"
LOOKUP_SECS = 5.0
RETRY_AFTER_SECS = "30"  # how long resolvers commonly remember that a name is missing
READ_BYTES = 64 * 1024
NEXT_ADDRESS_SECS = 0.25  # RFC 8305: until the next address is tried beside one that has not answered

# Called after every request with its method, server and status, the seconds it took and its failure. It never gets a
# path, a query, a header or a body, for those hold secrets.
OnCall = Callable[[str, Mapping[str, str | int], float, BaseException | None], None]


class GuardedClient:
    """Each request uses a connection of its own, to an address that was checked for it."""

    def __init__(
        self,
        policy: Policy,
        *,
        lookup: Lookup | None = None,
        tls_context: ssl.SSLContext | None = None,
        on_call: OnCall | None = None,
    ) -> None:
        self._policy = policy
        self._on_call = on_call
        self._lookup = lookup or SystemLookup()
        self._tls = tls_context

    async def check_destination(self, url: str) -> None:
        """Check a URL before it is stored; raises `BodyInvalid`, `UrlNotAllowed` or `HostUnresolved`."""
        target = check_url(url, self._policy)
        if target.literal is not None:
            return
        try:
            async with asyncio.timeout(LOOKUP_SECS):
                await resolve(target.host, self._policy, self._lookup)
        except (Refused, Unreachable, TimeoutError):
            raise HostUnresolved(headers={"Retry-After": RETRY_AFTER_SECS}) from None

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
        """Send one request, without proxies, redirects, cookies or decompression.

        The deadline covers name, connection, TLS and response. Of the response's body at most `max_bytes` are read.
        Raises `Refused` (never try again) or `Unreachable` (no response this time).
        """
        try:
            target = check_url(url, self._policy)
            own = {"Host": target.authority, "User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
            request = http1.request(method, target.path, {**own, **headers}, body)
        except AppError as refused:
            raise Refused(refused.message) from None
        except ValueError:
            raise Refused("the request cannot be written as HTTP") from None
        response = http1.Response(max_bytes)
        with self._reported(method, target, response):
            failure = "the connection was closed before a response"
            try:
                async with asyncio.timeout(deadline_secs):
                    await self._exchange(target, request, response)
            except TimeoutError:
                failure = f"no response within {deadline_secs:g} s"
            except http1.NotHttp:
                failure = "the response is not valid HTTP"
            except OSError:
                pass  # the status that arrived before stands
            if response.status is None:
                raise Unreachable(failure)
            return Reply(response.status, response.headers, bytes(response.body), response.complete)

    async def _exchange(self, target: Target, request: bytes, response: http1.Response) -> None:
        async with self._connected(target) as (reader, writer):
            writer.write(request)  # not awaited: the response may come before all of it is read
            while not response.done:
                data = await reader.read(READ_BYTES)
                if data:
                    response.feed(data)
                else:
                    response.end()

    @asynccontextmanager
    async def _connected(self, target: Target) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        addresses = [target.literal] if target.literal else await resolve(target.host, self._policy, self._lookup)
        context = (self._tls or tls.trusting_system()) if target.scheme == "https" else None
        try:
            socket = await start_connection(
                [_address_info(address, target.port) for address in addresses],
                happy_eyeballs_delay=NEXT_ADDRESS_SECS,
            )
        except OSError as failure:
            refused = isinstance(failure, ConnectionRefusedError)
            raise Unreachable("the connection was refused" if refused else "the connection could not be made") from None
        try:
            reader, writer = await asyncio.open_connection(
                sock=socket, ssl=context, server_hostname=target.host if context else None
            )
        except ssl.SSLError as failure:
            raise Unreachable(tls.complaint(failure)) from None
        except OSError:
            raise Unreachable("the TLS handshake failed") from None
        try:
            yield reader, writer
            writer.close()
        finally:
            if not writer.is_closing():
                writer.transport.abort()

    @contextmanager
    def _reported(self, method: str, target: Target, response: http1.Response) -> Iterator[None]:
        began, failure = time.perf_counter(), None
        try:
            yield
        except BaseException as raised:
            failure = raised
            raise
        finally:
            attributes: dict[str, str | int] = {"server.address": target.host, "server.port": target.port}
            if response.status is not None:
                attributes["http.response.status_code"] = response.status
            if self._on_call is not None:
                self._on_call(method, attributes, time.perf_counter() - began, failure)


def _address_info(address: Address, port: int) -> AddrInfoType:
    if address.version == 4:
        return AF_INET, SOCK_STREAM, IPPROTO_TCP, "", (str(address), port)
    return AF_INET6, SOCK_STREAM, IPPROTO_TCP, "", (str(address), port, 0, 0)
