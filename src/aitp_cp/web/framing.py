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
from typing import Any, cast
from urllib.parse import unquote

import httptools
from uvicorn._types import ASGISendEvent, ASGIVersions
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from aitp_cp.errors import AppError, BadRequest, HeadersTooLarge, UriTooLong
from aitp_cp.web.sse import CONNECTION

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
PIECE_BYTES = 16 * 1024

BODY = "aitp_cp.body"  # in the scope of a request that announces one
HEAD_END = b"\r\n\r\n"
_VERSIONS = frozenset({"1.0", "1.1"})
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"expect", b"host"})

Headers = list[tuple[bytes, bytes]]


class Flow(FlowControl):
    """Reading that stays paused while `holding`, whatever the application asks for."""

    holding = False

    def hold(self) -> None:
        self.pause_reading()
        self.holding = True

    def resume_reading(self) -> None:
        if not self.holding:
            super().resume_reading()


class CycleOf10(RequestResponseCycle):
    """Below HTTP/1.1 there is no transfer coding: an answer without a length ends with its connection."""

    _ends_with_connection = False

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            lengths = [name for name, _ in message.get("headers", ()) if name.lower() == b"content-length"]
            self._ends_with_connection = not lengths
            if self._ends_with_connection:
                self.chunked_encoding = False
        elif message["type"] == "http.response.body" and self._ends_with_connection:
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


class FramedProtocol(HttpToolsProtocol):
    """Gives the application only requests whose beginning and end are certain; `refuse` says what happens otherwise."""

    endless = False  # its answer goes on until somebody ends it, and bounds itself
    _in_head = False
    _in_body = False  # of `self.cycle`
    _last = False  # the client said that nothing follows, or the parser may not go on
    _length: int | None = None
    _chunked = False
    _body_left = 0
    _hosts = 0
    active_at = 0.0
    _head_since = 0.0  # when the head at hand began to arrive, or the first one could
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
        self._asgi: ASGIVersions = {"version": self.asgi_version, "spec_version": "2.3"}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.flow = Flow(transport)

    def data_received(self, data: bytes) -> None:
        if self._last or self._held:
            self._keep(data)
            return
        self.active_at = self.loop.time()
        if self._in_body or self.pipeline or not _holds_one_head(data):
            self._feed(data)
        elif left := self._parse(data):
            self._feed(data[-left:])

    def _keep(self, data: bytes) -> None:
        if self._last:
            self.ignore(len(data))
        else:
            self._hold(self._held + data)

    # -- from bytes to pieces that hold at most one head -------------------------------------------

    def _feed(self, data: bytes) -> None:
        start, size = 0, len(data)
        while start < size and not self._last:
            if self.pipeline and self._queue_is_full():
                self._hold(data[start:])
                return
            end = self._end_of_piece(data, start)
            start = end - self._parse(data if end - start == size else data[start:end])

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
        """Where at most one head has ended, and no more than a piece of what the parser may gather silently."""
        if self._in_body and self._length is not None:
            return min(len(data), start + self._body_left)
        end = data.find(HEAD_END, start) + len(HEAD_END)
        end = len(data) if end < len(HEAD_END) else end
        return min(end, start + PIECE_BYTES) if self._in_body else end

    def _parse(self, piece: bytes) -> int:
        """Feed the parser; how many bytes at the end of the piece were not taken."""
        heads, left = self._heads, 0
        self._piece_bytes = size = len(piece)
        if self._in_body:
            self._silent_bytes += size
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as offer:
            left = size - int(offer.args[0])
            self._ignore_offer()
        except httptools.HttpParserError:
            self._refuse()
        if self._in_head:
            self._head_bytes = size + (self._head_bytes if self._heads == heads else 0)
            if self._head_bytes > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
                self._refuse(HeadersTooLarge())
        elif self._silent_bytes > MAX_SILENT_BYTES and self._in_body:
            self._refuse(BadRequest("the framing of the body is longer than it may be"))
        return left

    def _ignore_offer(self) -> None:
        """Parse the head once more as it reads without its offer; the bytes behind it are then framed by it."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        self.parser = httptools.HttpRequestParser(self)
        try:
            self.parser.feed_data(without_offer(method, self.url, version, self.headers))
        except httptools.HttpParserError:
            self._refuse()

    # -- callbacks of the parser --------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.url = b""
        self.expect_100_continue = False
        self.headers = headers = cast("Headers", [])
        self.scope = {  # type: ignore[typeddict-item]  # the request line is put into it below
            "type": "http",
            "asgi": self._asgi,
            "server": self.server,
            "client": self.client,
            "scheme": "http",
            "root_path": "",
            "headers": headers,
            "extensions": {CONNECTION: self},  # type: ignore[dict-item]  # of our own
        }
        self._head_since = self.active_at
        self._heads += 1
        self._in_head = True
        self._length = None
        self._chunked = False
        self._hosts = 0

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > MAX_TARGET_BYTES:
            self._raise(UriTooLong())

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            self._raise(BadRequest("trailers are not accepted"))
        name = name.lower()
        self.headers.append((name, value))
        if name in _FRAMING:
            self._note(name, value)

    def _note(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._hosts += 1
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
        self._head_bytes = 0
        parser = self.parser
        version, method = parser.get_http_version(), parser.get_method().decode("ascii")
        if version not in _VERSIONS or method == "CONNECT":
            self._raise(BadRequest("the request is not HTTP/1.1"))
        if self._hosts > 1 or (self._chunked and (self._length is not None or version == "1.0")):
            self._raise(BadRequest("the framing of the request is ambiguous"))
        if b"#" in self.url:
            self._raise(BadRequest("the request target holds a fragment"))
        if len(self.headers) > MAX_HEADERS:
            self._raise(HeadersTooLarge())
        if not parser.should_upgrade():  # else the head is parsed once more, without the offer
            self.begin_request(method, version)

    def begin_request(self, method: str, version: str) -> None:
        """The head is whole and unambiguous: run the application, or put the request into the queue."""
        target = httptools.parse_url(self.url)
        path = target.path.decode("ascii")
        scope = self.scope
        scope["method"] = method
        scope["http_version"] = version
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = target.path
        scope["query_string"] = target.query or b""
        if self._chunked or self._length:
            scope[BODY] = True  # type: ignore[literal-required]
        earlier = self.cycle
        self.cycle = cycle = self._cycle(version)
        self._in_body = True
        self._body_left = self._length or 0
        self._silent_bytes = 0
        if earlier is None or earlier.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))
            self._queued_bytes += len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _cycle(self, version: str) -> RequestResponseCycle:
        kind = RequestResponseCycle if version == "1.1" else CycleOf10
        return kind(
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

    def on_body(self, body: bytes) -> None:
        self._silent_bytes = 0
        self._body_left -= len(body)
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > MAX_HELD_BYTES:
            if cycle is not self._running:
                self._raise(BadRequest("a request ahead of its turn has too long a body"))
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        if not self._in_body:  # an offer, or answered already
            return
        self._in_body = False
        cycle = self.cycle
        self._last = self._last or not cycle.keep_alive
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    def _raise(self, refusal: AppError) -> None:
        self._refusal = refusal
        raise refusal

    # -- the queue, and the end -----------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.active_at = self.loop.time()
        self.endless = False
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._queued_bytes = 0
        if self._held:
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
        cycle, in_body = self.cycle, self._in_body
        self._in_head = self._in_body = False
        refusal = self.turn_away(refusal, executed=in_body and cycle is self._running)
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

    def turn_away(self, refusal: AppError, *, executed: bool) -> AppError:
        """Count a refusal against its sender; what to answer. `executed`: the application tells of it as well."""
        return refusal

    def ignore(self, size: int) -> None:
        """Bytes arrived that are not read."""

    def hang_up(self, refusal: AppError | None = None) -> None:
        """Close, after an answer with `refusal` if there is one."""
        raise NotImplementedError


def _holds_one_head(data: bytes) -> bool:
    """Whether it can be fed to the parser at once: one head at most ends in it, and it is no longer than a piece."""
    end = data.find(HEAD_END)
    size = len(data)
    if end == size - 4:
        return size <= MAX_HEAD_BYTES
    # The usual body is JSON without a line end; a search for one byte is cheap.
    return size <= PIECE_BYTES and (end < 0 or data.find(b"\r", end + 4) < 0)


def without_offer(method: bytes, target: bytes, version: bytes, headers: Headers) -> bytes:
    """The head of a request as it reads without its `Upgrade`."""
    kept = b"".join([b"%b: %b\r\n" % header for header in headers if header[0] != b"upgrade"])
    return b"%b %b HTTP/%b\r\n%b\r\n" % (method, target, version, kept)
