"""The sockets of one or several processes, opened in one way."""

import errno
from socket import (
    AF_INET6,
    AI_PASSIVE,
    IPPROTO_IPV6,
    IPV6_V6ONLY,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SOCK_STREAM,
    SOL_SOCKET,
    AddressFamily,
    getaddrinfo,
    socket,
)
from typing import Any

from aitp_cp.cli.exits import ADDRESS
from aitp_cp_client.commands.output import stop

ANY_IPV6 = "::"
NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}


def open_sockets(host: str, port: int, count: int) -> list[list[socket]]:
    """Bind the address for each of `count` processes; it does not listen yet. `::` takes IPv4 too.

    With several, each process has sockets of its own (SO_REUSEPORT), and the kernel spreads connections evenly. A name
    of several addresses is bound to all of them. Stops the command when an address cannot be had.
    """
    sets: list[list[socket]] = []
    try:
        addresses = [(info[0], info[4]) for info in getaddrinfo(host, port, type=SOCK_STREAM, flags=AI_PASSIVE)]
        for _ in range(count):
            sockets: list[socket] = []
            for family, address in addresses:
                sockets.append(_bound(family, (address[0], port, *address[2:]), shared=count > 1))
                port = port or sockets[0].getsockname()[1]  # the one that the system chose
            sets.append(sockets)
    except OSError as failure:
        hint = "; without IPv6 HOST=0.0.0.0 takes IPv4" if host == ANY_IPV6 and failure.errno in NO_IPV6 else ""
        stop(f"cannot listen on {host}:{port} ({failure.strerror}){hint}", ADDRESS)
    return sets


def reopen(sockets: list[socket]) -> list[socket]:
    """Close sockets that nobody serves, so that no connection waits at them, and bind their addresses anew."""
    addresses = [(AddressFamily(sock.family), sock.getsockname()) for sock in sockets]
    for sock in sockets:
        sock.close()
    return [_bound(*address, shared=True) for address in addresses]


def _bound(family: AddressFamily, address: Any, *, shared: bool) -> socket:
    sock = socket(family, SOCK_STREAM)
    try:
        sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
        if family == AF_INET6:
            sock.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, address[0] != ANY_IPV6)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
