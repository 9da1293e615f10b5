"""The writing half of an HTTP connection: heads as uvicorn writes them, with fewer looks and writes."""

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

if TYPE_CHECKING:
    from aitp_cp.web.guards import GuardedProtocol

COPIED_BYTES = 4 * 1024  # of a body behind its head; the cache shares the bytes of larger ones among connections


class Cycle(RequestResponseCycle):
    """One request and its response. Below HTTP/1.1 there are no chunks: the connection ends the response."""

    connection: "GuardedProtocol"
    _head = b""  # is written together with the body

    async def send(self, message: ASGISendEvent) -> None:
        if self.transport.is_closing():  # uvloop raises for what is written then
            self.disconnected = True  # uvicorn hears of it later, and would log that nothing was answered
            return
        if message["type"] == "http.response.start" and not self.flow.write_paused:
            self._start(message["status"], [*self.default_headers, *message["headers"]])
            return
        body = cast("Any", message).get("body", b"")
        self.connection.unsent.written += len(body)
        if self.scope["http_version"] == "1.0":
            self.chunked_encoding = False
            self.expected_content_length = len(body)
        head, self._head = self._head, b""
        if head and len(body) <= COPIED_BYTES:
            message = cast("ASGISendEvent", {**message, "body": head + body})
            self.expected_content_length += len(head)
        elif head:
            self.transport.write(head)
        await super().send(message)

    def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Write the head as uvicorn does, with one look at all headers instead of two at each."""
        if self.disconnected:
            return
        names = dict(headers)
        if length := names.get(b"content-length"):
            self.chunked_encoding, self.expected_content_length = False, int(length)
        elif self.scope["method"] != "HEAD" and status not in {204, 304} and self.scope["http_version"] == "1.1":
            self.chunked_encoding = True
            headers.append((b"transfer-encoding", b"chunked"))
        self.keep_alive = self.keep_alive and names.get(b"connection") != b"close"
        last = status == HTTPStatus.TOO_MANY_REQUESTS and self.connection.end_if_held()
        if (last or not self.keep_alive) and b"connection" not in names:
            headers.append((b"connection", b"close"))
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers) or b"\0" in lines:
            raise RuntimeError("a response header holds a line end")
        self.response_started = True
        self.waiting_for_100_continue = False
        head = b"%b%b\r\n" % (STATUS_LINE[status], lines)
        if not length or self.scope["method"] == "HEAD":
            self.transport.write(head)
        else:
            self._head = head
