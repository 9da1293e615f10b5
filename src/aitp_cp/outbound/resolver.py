"""Name to address, once per connection, every answer checked."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

from aitp_cp.errors import HostUnresolved
from aitp_cp.outbound.addresses import forbidden
from aitp_cp.outbound.model import Address, Policy, Refused, Unreachable

# Every address of a name; none when it does not resolve.
Lookup = Callable[[str], Awaitable[list[Address]]]

MAX_LOOKUPS = 32
NO_ADDRESS = "the host name does not lead to a public address"
RETRY_AFTER_SECS = "30"  # how long resolvers commonly remember that a name is missing


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


async def checked(host: str, policy: Policy, lookup: Lookup) -> list[Address]:
    """Every address of a name; raises `Refused` if a single one is forbidden, `Unreachable` if there is none.

    Both say the same: whoever chooses the name must not learn what our own name server knows of it.
    """
    addresses = await lookup(host)
    if any(forbidden(address, policy.allowed_cidrs) for address in addresses):
        raise Refused(NO_ADDRESS)
    if not addresses:
        raise Unreachable(NO_ADDRESS)
    return addresses


async def check_resolved(host: str, policy: Policy, lookup: Lookup, deadline_secs: float) -> None:
    """The same question before anything is stored: raises `HostUnresolved` whatever the reason."""
    try:
        async with asyncio.timeout(deadline_secs):
            await checked(host, policy, lookup)
    except (Refused, Unreachable, TimeoutError):
        raise HostUnresolved(headers={"Retry-After": RETRY_AFTER_SECS}) from None


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
