"""What uvicorn leaves open: where a request ends, and how much one connection may cost. Strictly by RFC 9112.

llhttp refuses most of what is ambiguous (both framings, repeated lengths, bare CR or LF, folded lines). Added here:

- An offer to upgrade never changes the framing. llhttp ends a request that carries one at its head and takes the body
  for another protocol; the head is parsed once more without the offer instead.
- Trailers are refused: the parser reports them like headers, after the head has been judged.
- HTTP/1.0 and 1.1 are the only versions, `chunked` is the only transfer coding, and only in 1.1.
- HTTP/1.1 needs one `Host`, which must be a host; HTTP/1.0 needs none. An absolute target names the host itself.
- One request at a time: what is sent ahead of a response waits unparsed, within `MAX_HELD_BYTES`.
- What cannot be parsed is answered once, in the one error shape, and the connection is closed.
- A request over its rate limit ends the connection if others were sent behind it: each of them would cost as much.

The time that clients take is bounded by a sweep over all connections (web/connections.py).
"""

import asyncio
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn, cast
from urllib.parse import unquote

import httptools
from uvicorn._types import ASGIVersions
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aitp_cp.errors import AppError, BadRequest, HeadersTooLarge, UriTooLong
from aitp_cp.web.client_ip import UNKNOWN
from aitp_cp.web.connections import Connections, Unsent
from aitp_cp.web.context import BODY, request_id
from aitp_cp.web.cycle import Cycle
from aitp_cp.web.responses import encode_error
from aitp_cp.web.sse import CONNECTION

if TYPE_CHECKING:
    from starlette.types import Scope

# While a head arrives; the application judges path, query and headers one by one (web/edge.py).
MAX_TARGET_BYTES = 32 * 1024
MAX_HEAD_BYTES = 36 * 1024  # 16 KiB of query, 8 of path, 8 of headers, and what stands between them
MAX_HEADERS = 128
MAX_HELD_BYTES = 16 * 1024
# The parser gathers a trailer or a chunk's extension without a word: bytes of a body without any of its content.
MAX_SILENT_BYTES = 4 * 1024
PIECE_BYTES = 16 * 1024
HEAD_TIMEOUT_SECS = 20.0  # a connection without a request, or the head of one
BODY_TIMEOUT_SECS = 30.0  # the body of a request that has been answered already
# A refused client may go on sending this much before it must have read its response.
LINGER_BYTES = 4 * 1024 * 1024
LINGER_SECS = 2.0

HEAD_END = b"\r\n\r\n"  # a chunked body ends with it, too
_VERSIONS = frozenset({"1.0", "1.1"})
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"expect", b"host"})
_AUTHORITY = rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(?::[0-9]*)?"  # RFC 3986, without user information
_HOST = re.compile(_AUTHORITY)
_ABSOLUTE = re.compile(rb"(?i:https?)://(%b)(?=[/?]|\Z)" % _AUTHORITY)


class GuardedProtocol(HttpToolsProtocol):
    """One connection. The application sees only requests whose beginning and end are certain."""

    requests = 0
    active_at = 0.0
    endless = False  # the response is a stream, which bounds itself
    _in_head = _in_body = False
    _head_since = 0.0
    _head_bytes = _silent_bytes = _body_left = _hosts = 0
    _length: int | None = None
    _chunked = False
    _host = b""  # the last one that was found to be a host; an empty one is none, and allowed (RFC 9112, section 3.2)
    _tail = b""  # of an unfinished head or chunked body: its last bytes, which may begin its end
    _held = b""
    _overflowed = False  # more was sent ahead than is held
    _end_next = False  # the response that is due is the last
    _ended = False  # nothing more is parsed
    _hung_up = False
    _discarded = 0
    _refusal: AppError | None = None

    def __init__(self, *arguments: Any, connections: Connections, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.parser = httptools.HttpRequestParser(self)  # without the leniencies that uvicorn sets
        self.unsent = Unsent()
        self._connections = connections
        self._asgi: ASGIVersions = {"version": self.asgi_version, "spec_version": "2.3"}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.active_at = self._head_since = self.loop.time()
        self._connections.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._connections.closed(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._connections.hurry()

    @property
    def queued(self) -> int:
        """Requests that were sent ahead of the response that is due."""
        return self._held.count(HEAD_END)

    def busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def overdue(self, now: float) -> bool:
        """Return whether the client has had its time."""
        if self._hung_up or self.busy():
            return False
        if self._in_head or not self.requests:
            return now > self._head_since + HEAD_TIMEOUT_SECS
        if self._in_body:
            return now > self._head_since + BODY_TIMEOUT_SECS
        return now > self.active_at + self.timeout_keep_alive

    def data_received(self, data: bytes) -> None:
        if self._ended or self._overflowed:
            self._discarded += len(data)
            if self._hung_up and self._discarded > LINGER_BYTES:
                self.transport.close()
        elif self._held:
            self._hold(self._held + data)
        else:
            self.active_at = self.loop.time()
            if self._tail or self._in_body or self.busy() or data.find(HEAD_END) != len(data) - len(HEAD_END):
                self._feed(data)
            else:  # one head and nothing else, as nearly always
                self._parse(data)

    def _feed(self, data: bytes) -> None:
        start, size = 0, len(data)
        while start < size and not self._ended:
            if self.busy() and not self._in_body:
                self._hold(data[start:] if start else data)
                return
            end = self._end_of_piece(data, start)
            self._parse(data[start:end] if end - start < size else data)
            start = end

    def _hold(self, data: bytes) -> None:
        self._held = data[:MAX_HELD_BYTES]
        self._overflowed |= len(data) > MAX_HELD_BYTES
        self.flow.pause_reading()

    def _end_of_piece(self, data: bytes, start: int) -> int:
        """Return where the head or the body ends at the latest, and no more than a piece of a chunked body."""
        size = len(data)
        if self._in_body and self._length is not None:
            return min(size, start + self._body_left)
        if self._tail:
            end = (self._tail + data[start : start + 3]).find(HEAD_END)
            if end >= 0:
                return start + end + len(HEAD_END) - len(self._tail)
        end = data.find(HEAD_END, start)
        end = size if end < 0 else end + len(HEAD_END)
        return min(end, start + PIECE_BYTES) if self._in_body else end

    def _parse(self, piece: bytes) -> None:
        size = len(piece)
        if self._in_body:
            self._silent_bytes += size
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self._ignore_offer()
        except httptools.HttpParserError:
            self._refuse()
        if self._in_head:
            self._tail = (self._tail + piece)[-3:]
            self._head_bytes += size
            if self._head_bytes > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
                self._refuse(HeadersTooLarge())
        elif self._in_body and self._length is None:
            self._tail = (self._tail + piece)[-3:]
            if self._silent_bytes > MAX_SILENT_BYTES:
                self._refuse(BadRequest("the framing of the body is longer than it may be"))
        else:
            self._tail = b""

    def _ignore_offer(self) -> None:
        """Parse the head once more, without the offer; the bytes behind it are then framed by it."""
        kept = b"".join([b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"])
        version = self.parser.get_http_version().encode()
        head = b"%b %b HTTP/%b\r\n%b\r\n" % (self.parser.get_method(), self.url, version, kept)
        self.parser = httptools.HttpRequestParser(self)
        try:
            self.parser.feed_data(head)
        except httptools.HttpParserError:
            self._refuse()

    def on_message_begin(self) -> None:
        if self.busy():  # no piece holds two heads; if one did, nothing of the second may be taken for the first
            self._raise(BadRequest("the framing of the request is ambiguous"))
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self._head_since = self.active_at
        self._in_head = True
        self._length = None
        self._chunked = False
        self._hosts = self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > MAX_TARGET_BYTES:
            self._raise(UriTooLong())

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            self._raise(BadRequest("trailers are not accepted"))
        name = name.lower()
        self.headers.append((name, value))
        if name not in _FRAMING:
            return
        if name == b"host":
            self._hosts += 1
            if value != self._host:
                self._take_host(value)
        elif name == b"content-length":
            self._length = int(value)  # digits only, says the parser
        elif name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        elif value.lower() == b"chunked":
            self._chunked = True
        else:
            self._raise(BadRequest("the only transfer coding is chunked"))

    def on_headers_complete(self) -> None:
        self._in_head = False
        parser = self.parser
        version, method = parser.get_http_version(), parser.get_method().decode("ascii")
        if version not in _VERSIONS or method == "CONNECT":
            self._raise(BadRequest("the request is not HTTP/1.1"))
        if self._hosts > 1 or (self._chunked and (self._length is not None or version == "1.0")):
            self._raise(BadRequest("the framing of the request is ambiguous"))
        if not self._hosts and version == "1.1":
            self._raise(BadRequest("the request has no Host"))
        if b"#" in self.url:
            self._raise(BadRequest("the request target holds a fragment"))
        if len(self.headers) > MAX_HEADERS:
            self._raise(HeadersTooLarge())
        if not parser.should_upgrade():  # else the head is parsed once more, without the offer
            self._begin(method, version)

    def _take_host(self, value: bytes) -> None:
        if value and not _HOST.fullmatch(value.strip(b" \t")):
            self._raise(BadRequest("the Host is not a host"))
        self._host = value

    def _take_absolute_target(self) -> None:
        """Split it into host and path; `Host` counts for nothing beside it (RFC 9112, section 3.2.2)."""
        absolute = _ABSOLUTE.match(self.url)
        if absolute is None:
            self._raise(BadRequest("the request target is neither a path nor an http URL"))
        self.headers = [header for header in self.headers if header[0] != b"host"] + [(b"host", absolute[1])]
        rest = self.url[absolute.end() :]
        self.url = rest if rest.startswith(b"/") else b"/" + rest

    def _begin(self, method: str, version: str) -> None:
        """Run the application for a head that is whole and unambiguous."""
        if not self.url.startswith((b"/", b"*")):
            self._take_absolute_target()
        target = httptools.parse_url(self.url)
        path = target.path.decode("ascii")
        self.scope = {
            "type": "http",
            "asgi": self._asgi,
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": "http",
            "method": method,
            "root_path": "",
            "path": unquote(path) if "%" in path else path,
            "raw_path": target.path,
            "query_string": target.query or b"",
            "headers": self.headers,
            "extensions": {CONNECTION: self},  # type: ignore[dict-item]  # of our own
        }
        if self._chunked or self._length:
            self.scope[BODY] = True  # type: ignore[literal-required]
        self._in_body = True
        self._silent_bytes = 0
        self._body_left = self._length or 0
        self.requests += 1
        self.cycle = cycle = Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version == "1.1" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        cycle.connection = self
        self._start_asgi_task(cycle, self.app)

    def on_body(self, body: bytes) -> None:
        self._silent_bytes = 0
        self._body_left -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._in_body:  # else it was the head that is parsed once more
            self._in_body = False
            self._ended = not self.cycle.keep_alive
            super().on_message_complete()

    def _raise(self, refusal: AppError) -> NoReturn:
        self._refusal = refusal
        raise refusal

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self.endless = False
        if self.transport.is_closing():
            return
        self.active_at = self.loop.time()
        if self._end_next:
            self._held = b""
            self._hang_up()
            return
        if self._held:
            held, self._held = self._held, b""
            self._feed(held)
        if self._overflowed and not self._held:
            self._end_overflowed()
        elif not self._held:
            self.flow.resume_reading()

    def end_if_held(self) -> bool:
        """End the connection behind the response that is due if other requests were sent ahead of it."""
        self._end_next = bool(self._held)
        return self._end_next

    def _end_overflowed(self) -> None:
        """Close once all that was held has been answered; a body that is not there will not come."""
        if self._in_body:
            self._refuse(BadRequest("more was sent ahead of a response than is kept"))
        elif not self.busy():
            self._hang_up()

    def _refuse(self, refusal: AppError | None = None) -> None:
        """Answer what cannot be parsed, unless its request has been answered, and close."""
        cycle, in_body = self.cycle, self._in_body
        self._ended = True
        self._in_head = self._in_body = False
        refusal = refusal or self._refusal or BadRequest("the request is not valid HTTP")
        answered = in_body and cycle.response_started  # and logged as it was answered
        scope = ({} if answered else cast("Scope", self.scope)) if in_body else None
        refusal = self._connections.refused(self.client[0] if self.client else UNKNOWN, refusal, scope)
        if in_body and not cycle.response_complete:
            cycle.disconnected = True  # the application reads that the client is gone, and is not heard any more
            cycle.message_event.set()
        self._hang_up(None if answered else refusal)

    def _hang_up(self, refusal: AppError | None = None) -> None:
        self._ended = self._hung_up = True
        if self.transport.is_closing():
            return
        if refusal is not None:
            self.transport.write(_refusal_bytes(refusal))
        # Closing at once would reset the connection, and a client that is still sending would never read the response.
        self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(LINGER_SECS, self.transport.close)


def _refusal_bytes(refusal: AppError) -> bytes:
    body = encode_error(refusal)
    headers = {"X-Request-Id": request_id(None), **refusal.headers}
    more = "".join(f"{name.lower()}: {value}\r\n" for name, value in headers.items())
    head = (
        f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}\r\ncontent-type: application/json\r\n"
        "cache-control: no-store\r\nx-content-type-options: nosniff\r\n"
        f"{more}content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
