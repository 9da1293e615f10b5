"""HTTP by hand: what no client library would send, and the answer as it came over the wire."""

import json
import socket
from typing import Any, NamedTuple

PATIENCE_SECS = 10


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def send(port: int, data: bytes) -> Reply:
    """Send these bytes, then read until the server has closed; a request should say `Connection: close`."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECS) as sock:
        sock.sendall(data)
        return parse(receive(sock))


def request(target: bytes, *headers: bytes, method: bytes = b"GET", body: bytes = b"") -> bytes:
    """A request for `target`, which may be anything at all."""
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", b"Host: cp", b"Connection: close", *headers, b"", body])


def receive(sock: socket.socket) -> bytes:
    received = bytearray()
    while chunk := sock.recv(65536):
        received += chunk
    return bytes(received)


def parse(received: bytes) -> Reply:
    """One whole answer; whatever follows it belongs to its body."""
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    return Reply(int(first.split(" ")[1]), {name.lower(): value for name, value in pairs}, body)


def chunked(body: bytes, size: int = 4096) -> bytes:
    chunks = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
