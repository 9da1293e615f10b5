"""Connections of strangers that mean to make the process hold something; none of them ever reads an answer.

`python -m tests.support.hostile PORT CONNECTIONS` keeps them open until it is killed.
"""

import asyncio
import socket
import sys
from collections.abc import Callable
from itertools import count, cycle, islice

Piece = Callable[[int], bytes]  # what a connection sends next, by how many pieces it has sent

HEAD = b"POST /api/registry/enroll HTTP/1.1\r\nHost: cp\r\n"
PAGE = b"GET /api/registry/agents?include_manifest=true&limit=1000&x=%d HTTP/1.1\r\nHost: cp\r\n\r\n"


def unread(sent: int) -> bytes:
    return PAGE % sent * 16 if sent < 4 else b""


def slow(sent: int) -> bytes:
    return b"" if sent else HEAD + b"Content-Length: 60000\r\n\r\n" + b"x" * 30_000


def pipelined(sent: int) -> bytes:
    return (PAGE % sent + b"GET /nope HTTP/1.1\r\nHost: cp\r\n\r\n" * 4000) if sent < 2 else b""


def trailers(sent: int) -> bytes:
    return b"X-Trailer: y\r\n" * 4000 if sent else HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"


def half_heads(sent: int) -> bytes:
    start = b"" if sent else b"GET /api/livez HTTP/1.1\r\n"
    return start + (b"X-%d: y\r\n" % sent) * 100 if sent < 1 else b"X" * 8192


KINDS: tuple[Piece, ...] = (unread, slow, pipelined, trailers, half_heads)


async def besiege(port: int, connections: int) -> None:
    """Keep so many hostile connections open, in equal parts of each kind, until cancelled."""
    await asyncio.gather(*(_attack(port, kind) for kind in islice(cycle(KINDS), connections)))


async def _attack(port: int, kind: Piece) -> None:
    loop = asyncio.get_running_loop()
    while True:
        with socket.socket() as sock:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            try:
                await loop.sock_connect(sock, ("127.0.0.1", port))
                for sent in count():
                    await loop.sock_sendall(sock, kind(sent))
                    await asyncio.sleep(0.5)
            except OSError:
                await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(besiege(*map(int, sys.argv[1:3])))
