"""Name to address, once per connection, every address checked."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import ip_address

from aitp_cp.outbound.addresses import forbidden
from aitp_cp.outbound.model import Address, Policy, Refused, Unreachable

# Returns every address of a name; none when it does not resolve.
Lookup = Callable[[str], Awaitable[list[Address]]]

MAX_LOOKUPS = 32
NO_ADDRESS = "the host name does not lead to a public address"


class SystemLookup:
    """Resolves names with the system's resolver; callers of one name share a lookup.

    A name whose servers are dead blocks one thread, not one for each caller; the threads end with the process.
    """

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Future[list[Address]]] = {}
        self._room = asyncio.Semaphore(MAX_LOOKUPS)

    async def __call__(self, host: str) -> list[Address]:
        lookup = self._running.get(host)
        if lookup is None:
            lookup = self._running[host] = asyncio.ensure_future(self._look_up(host))
            lookup.add_done_callback(lambda _: self._running.pop(host))
        return await asyncio.shield(lookup)

    async def _look_up(self, host: str) -> list[Address]:
        # A thread of its own: one of an executor would hold up the end of the process until its lookup times out.
        loop = asyncio.get_running_loop()
        result: asyncio.Future[list[Address]] = loop.create_future()

        def settle(addresses: list[Address]) -> None:
            if not result.done():
                result.set_result(addresses)

        def run() -> None:
            addresses = _system_addresses(host)
            with suppress(RuntimeError):  # the loop is closed, so nobody waits any more
                loop.call_soon_threadsafe(settle, addresses)

        async with self._room:
            threading.Thread(target=run, name="name-lookup", daemon=True).start()
            return await result


async def resolve(host: str, policy: Policy, lookup: Lookup) -> list[Address]:
    """Return every address of a name; raises `Refused` if one of them is forbidden, `Unreachable` if there is none.

    The errors read the same: a caller who chooses the name must not learn what our name server knows of it.
    """
    addresses = await lookup(host)
    if any(forbidden(address, policy.allowed_cidrs) for address in addresses):
        raise Refused(NO_ADDRESS)
    if not addresses:
        raise Unreachable(NO_ADDRESS)
    return addresses


def _system_addresses(host: str) -> list[Address]:
    try:
        entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(ip_address(sockaddr[0]) for *_, sockaddr in entries))
