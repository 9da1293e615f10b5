"""Name to address, once per connection, every answer checked."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

from aiohttp.abc import AbstractResolver, ResolveResult

from aitp_cp.errors import UrlNotAllowed
from aitp_cp.outbound.addresses import forbidden
from aitp_cp.outbound.model import Address, Policy, Refused, Unreachable

# Every address of a name; none when it does not resolve.
Lookup = Callable[[str], Awaitable[list[Address]]]

MAX_LOOKUPS = 32


class SystemLookup:
    """Asks the system's resolver, one question per name at a time.

    A name whose servers are dead holds one thread, not one for each caller; the threads end with the process.
    """

    def __init__(self) -> None:
        self._asked: dict[str, asyncio.Future[list[Address]]] = {}
        self._room = asyncio.Semaphore(MAX_LOOKUPS)

    async def __call__(self, host: str) -> list[Address]:
        question = self._asked.get(host)
        if question is None:
            question = self._asked[host] = asyncio.ensure_future(self._ask(host))
            question.add_done_callback(lambda _: self._asked.pop(host))
        return await asyncio.shield(question)

    async def _ask(self, host: str) -> list[Address]:
        async with self._room:
            return await _in_thread(host)


class CheckedResolver(AbstractResolver):
    """aiohttp connects to exactly what this returns, so what is connected to is what was checked."""

    def __init__(self, policy: Policy, lookup: Lookup) -> None:
        self._policy = policy
        self._lookup = lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [_result(host, port, address) for address in await checked(host, self._policy, self._lookup)]

    async def close(self) -> None:
        return None


async def checked(host: str, policy: Policy, lookup: Lookup) -> list[Address]:
    """Every address of a name; raises `Refused` if a single one is forbidden, `Unreachable` if there is none."""
    addresses = await lookup(host)
    for address in addresses:
        kind = forbidden(address, policy.allowed_cidrs)
        if kind is not None:
            raise Refused(f"the host name resolves to {kind}")
    if not addresses:
        raise Unreachable("the host name does not resolve")
    return addresses


async def check_resolved(host: str, policy: Policy, lookup: Lookup, deadline_secs: float) -> None:
    """The same question before anything is stored: raises `UrlNotAllowed` whatever the reason."""
    try:
        async with asyncio.timeout(deadline_secs):
            await checked(host, policy, lookup)
    except Refused as refused:
        raise UrlNotAllowed(str(refused)) from None
    except (Unreachable, TimeoutError):
        raise UrlNotAllowed("the host name does not resolve") from None


def _result(host: str, port: int, address: Address) -> ResolveResult:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return ResolveResult(hostname=host, host=str(address), port=port, family=family, proto=0, flags=flags)


async def _in_thread(host: str) -> list[Address]:
    # A thread of its own: one of an executor would hold up the end of the process until its question times out.
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Address]] = loop.create_future()
    threading.Thread(target=lambda: _answer(loop, answer, _ask_system(host)), name="name-lookup", daemon=True).start()
    return await answer


def _ask_system(host: str) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(ip_address(sockaddr[0]) for *_, sockaddr in found))


def _answer(loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[list[Address]]", addresses: list[Address]) -> None:
    try:
        loop.call_soon_threadsafe(lambda: None if answer.done() else answer.set_result(addresses))
    except RuntimeError:  # the loop is closed: nobody waits any more
        return
