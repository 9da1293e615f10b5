"""Where one request ends and the next begins: strictly by RFC 9112, and nothing is parsed once that is uncertain.

llhttp by itself refuses most of what is ambiguous (both framings, repeated lengths, bare CR or LF, folded lines). This
module adds what it leaves open:

- An offer to upgrade never changes the framing. llhttp ends a request that carries one at its head and takes the body
  for another protocol; the head is parsed once more without the offer instead.
- Trailers are refused: the parser reports them like headers, after the head has been judged.
- HTTP/1.0 and 1.1 are the only versions, `chunked` is the only transfer coding, and only in 1.1.
- Requests sent ahead of their answers are queued within bounds.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from aitp_cp.errors import AppError, BadRequest, HeadersTooLarge, UriTooLong
from aitp_cp.web.sse import SseHttpProtocol

# The application judges path, query and headers (web/http.py); these bounds hold while a head is still arriving.
MAX_TARGET_BYTES = 32 * 1024
MAX_HEAD_BYTES = 36 * 1024  # 16 KiB of query, 8 of path, 8 of headers, and what stands between them
MAX_HEADERS = 128
# Requests that one connection may send ahead of their answers, and bytes of their heads or of a body among them.
MAX_QUEUED = 16
MAX_QUEUED_BYTES = 64 * 1024
# What is kept unparsed of one connection while its queue is full.
MAX_HELD_BYTES = 16 * 1024
# The parser gathers a trailer or a chunk's extension without telling: bytes of a body without any of its content.
MAX_SILENT_BYTES = 4 * 1024
CHUNKED_PIECE_BYTES = 16 * 1024

BODY = "aitp_cp.body"  # in the scope of a request that announces one
HEAD_END = b"\r\n\r\n"
_VERSIONS = frozenset({"1.0", "1.1"})
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"expect", b"host"})


class Flow(FlowControl):
    """Reading that stays paused while `holding`, whatever the application asks for."""

    holding = False

    def hold(self) -> None:
        self.pause_reading()
        self.holding = True

    def resume_reading(self) -> None:
        if not self.holding:
            super().resume_reading()


class FramedProtocol(SseHttpProtocol):
    """Gives the application only requests whose beginning and end are certain; `refuse` says what happens otherwise."""

    _in_head = False
    _in_body = False  # of `self.cycle`
    _last = False  # the client said that nothing follows, or the parser may not go on
    _length: int | None = None
    _chunked = False
    _body_left = 0
    _hosts = 0
    _heads = 0
    _head_bytes = 0
    _piece_bytes = 0
    _silent_bytes = 0
    _queued_bytes = 0
    _held = b""
    _refusal: AppError | None = None
    _running: RequestResponseCycle | None = None

    flow: Flow

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.parser = httptools.HttpRequestParser(self)  # without the leniencies that uvicorn sets

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.flow = Flow(transport)

    def data_received(self, data: bytes) -> None:
        if self._held:
            self._hold(self._held + data)
        else:
            self._feed(data)

    # -- from bytes to pieces that hold at most one head -------------------------------------------

    def _feed(self, data: bytes) -> None:
        start = 0
        while start < len(data) and not self._last:
            if self.pipeline and self._queue_is_full():
                self._hold(data[start:])
                return
            end = self._end_of_piece(data, start)
            start = end - self._parse(data if end - start == len(data) else data[start:end])

    def _queue_is_full(self) -> bool:
        return len(self.pipeline) >= MAX_QUEUED or self._queued_bytes > MAX_QUEUED_BYTES

    def _hold(self, data: bytes) -> None:
        if len(data) > MAX_HELD_BYTES:
            self._held = b""
            self._end_after_queue()
            return
        self._held = data
        self.flow.hold()

    def _end_of_piece(self, data: bytes, start: int) -> int:
        if self._in_body and self._length is not None:
            return min(len(data), start + self._body_left)
        end = data.find(HEAD_END, start)
        end = len(data) if end < 0 else end + len(HEAD_END)
        return min(end, start + CHUNKED_PIECE_BYTES) if self._in_body else end

    def _parse(self, piece: bytes) -> int:
        """Feed the parser; how many bytes at the end of the piece were not taken."""
        heads, left = self._heads, 0
        self._piece_bytes = len(piece)
        if self._in_body:
            self._silent_bytes += len(piece)
        try:
            left = self._parse_offers(piece)
        except httptools.HttpParserError:
            self._refuse()
        if self._in_head:
            self._head_bytes = len(piece) + (self._head_bytes if self._heads == heads else 0)
        self._check_sizes()
        return left

    def _parse_offers(self, piece: bytes) -> int:
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as offer:
            method, version = self.parser.get_method(), self.parser.get_http_version().encode()
            self.parser = httptools.HttpRequestParser(self)
            self.parser.feed_data(without_offer(method, self.url, version, self.headers))
            return len(piece) - int(offer.args[0])
        return 0

    def _check_sizes(self) -> None:
        if self._last:
            return
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HeadersTooLarge())
        elif self._in_body and self._silent_bytes > MAX_SILENT_BYTES:
            self._refuse(BadRequest("the framing of the body is longer than it may be"))

    # -- callbacks of the parser --------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._heads += 1
        self._in_head = True
        self._length = None
        self._chunked = False
        self._hosts = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_TARGET_BYTES:
            self._raise(UriTooLong())
        if b"#" in url:
            self._raise(BadRequest("the request target holds a fragment"))

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            self._raise(BadRequest("trailers are not accepted"))
        name = name.lower()
        self.headers.append((name, value))
        if len(self.headers) > MAX_HEADERS:
            self._raise(HeadersTooLarge())
        if name in _FRAMING:
            self._note(name, value)

    def _note(self, name: bytes, value: bytes) -> None:
        if name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        elif name == b"content-length":
            self._length = int(value)  # digits only, says the parser
        elif name == b"host":
            self._hosts += 1
        elif value.lower() == b"chunked":
            self._chunked = True
        else:
            self._raise(BadRequest("the only transfer coding is chunked"))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        version = self.parser.get_http_version()
        if version not in _VERSIONS or self.parser.get_method() == b"CONNECT":
            self._raise(BadRequest("the request is not HTTP/1.1"))
        if self._hosts > 1 or (self._chunked and (self._length is not None or version == "1.0")):
            self._raise(BadRequest("the framing of the request is ambiguous"))
        if not self.parser.should_upgrade():  # else the head is parsed once more, without the offer
            self.begin_request()

    def begin_request(self) -> None:
        """The head is whole and unambiguous."""
        if self._chunked or self._length:
            self.scope[BODY] = True  # type: ignore[literal-required]
        super().on_headers_complete()
        self._in_body = True
        self._body_left = self._length or 0
        self._silent_bytes = 0
        if self.pipeline:
            self._queued_bytes += len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def on_body(self, body: bytes) -> None:
        self._silent_bytes = 0
        self._body_left -= len(body)
        super().on_body(body)
        if self.cycle is not self._running and len(self.cycle.body) > MAX_HELD_BYTES:
            self._raise(BadRequest("a request ahead of its turn has too long a body"))

    def on_message_complete(self) -> None:
        if self._in_body:
            self._in_body = False
            super().on_message_complete()
            self._last = self._last or not self.cycle.keep_alive

    def _raise(self, refusal: AppError) -> None:
        self._refusal = refusal
        raise refusal

    # -- the queue, and the end -----------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.pipeline:
            self._queued_bytes = 0
        if self._held and not self.transport.is_closing():
            held, self._held = self._held, b""
            self.flow.holding = False
            self.data_received(held)
            self.flow.resume_reading()

    def _end_after_queue(self) -> None:
        """Nothing more is read; the connection ends with the last answer that is due."""
        self._last = True
        last = self.pipeline[0][0] if self.pipeline else self._running
        if last is not None:
            last.keep_alive = False

    def _refuse(self, refusal: AppError | None = None) -> None:
        """Answer what cannot be parsed to its end once, never ahead of an answer that is due, and close."""
        self._last = True
        refusal = refusal or self._refusal or BadRequest("the request is not valid HTTP")
        cycle, in_body, self._in_body = self.cycle, self._in_body, False
        if in_body and cycle.response_complete:
            self.hang_up()
        elif in_body and cycle is not self._running:
            self.pipeline.popleft()
            self._end_after_queue()
        elif in_body:
            cycle.disconnected = True  # the application reads that the client is gone, and is not heard any more
            cycle.message_event.set()
            self.hang_up(None if cycle.response_started else refusal)
        elif self._running is not None and not self._running.response_complete:
            self._end_after_queue()
        else:
            self.hang_up(refusal)

    def hang_up(self, refusal: AppError | None = None) -> None:
        """Close, after an answer with `refusal` if there is one."""
        raise NotImplementedError


def without_offer(method: bytes, target: bytes, version: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The head of a request as it reads without its `Upgrade`."""
    kept = b"".join([b"%b: %b\r\n" % header for header in headers if header[0] != b"upgrade"])
    return b"%b %b HTTP/%b\r\n%b\r\n" % (method, target, version, kept)
