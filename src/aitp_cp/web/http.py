"""The connection below the application: what is not HTTP, or too much of it, is answered in the one error shape."""

import asyncio
from http import HTTPStatus
from typing import Any

import structlog

from aitp_cp.errors import AppError
from aitp_cp.web.context import request_id
from aitp_cp.web.framing import FramedProtocol
from aitp_cp.web.responses import encode_error

MAX_QUERY_BYTES = 16 * 1024
MAX_PATH_BYTES = 8 * 1024
MAX_HEADER_BYTES = 8 * 1024
# How long a connection may be open without a request, or the head of one may take to arrive.
HEAD_PATIENCE_SECS = 20.0
# A client that takes less than this of an answer in so long is cut off: what it does not take is held in memory. The
# system's own buffer takes more from us in lumps of up to a megabyte or so, hence the long time.
READER_PATIENCE_SECS = 120.0
SLOWEST_READER_BYTES = 32 * 1024

# A head that came whole and small needs no further judgement before it is answered from memory.
_SMALL_HEAD_BYTES = 4 * 1024
_COPIED_BYTES = 32 * 1024
_LINGER_BYTES = 4 * 1024 * 1024
_LINGER_SECS = 2.0

log = structlog.get_logger("aitp_cp.http")


def write_both(transport: asyncio.Transport, head: bytes, body: bytes) -> None:
    """In one call of the system: copying what is small is cheaper than describing two pieces."""
    if len(body) <= _COPIED_BYTES:
        transport.write(head + body)
    else:
        transport.writelines((head, body))


class HeldHead:
    """Writes to a transport; an answer's head waits for what follows, so that both leave in one call of the system."""

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            write_both(self._transport, head, data)
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 1"):
            self._head = data
        else:
            self._transport.write(data)

    def close(self) -> None:
        if self._head:
            self.write(b"")
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


class JsonHttpProtocol(FramedProtocol):
    """Bounds for how long one connection may wait for its client; says what is wrong with a head."""

    _hung_up = False
    _swallowed = 0
    _answered = False  # the request at hand, from memory
    _reader_check: asyncio.TimerHandle | None = None
    _waiting_since: float | None = None  # for the client to take what is written
    _untaken = 0  # bytes, then

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._at_once = getattr(self.app, "at_once", None)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._head_since = self.loop.time()
        self._wait_for_more(self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        if self._reader_check is not None:
            self._reader_check.cancel()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._begin_waiting()
        if self._reader_check is None:
            self._check_reader_in(READER_PATIENCE_SECS)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._waiting_since = None

    def _begin_waiting(self) -> None:
        self._waiting_since = self.loop.time()
        self._untaken = self.transport.get_write_buffer_size()

    def _check_reader_in(self, secs: float) -> None:
        """One timer outlives many pauses: setting it costs more than they do."""
        self._reader_check = self.loop.call_later(secs, self._judge_reader)

    def _judge_reader(self) -> None:
        self._reader_check = None
        if self._waiting_since is None:
            return
        left = self._waiting_since + READER_PATIENCE_SECS - self.loop.time()
        if left > 0:
            self._check_reader_in(left)
        elif self._untaken - self.transport.get_write_buffer_size() < SLOWEST_READER_BYTES:
            self.transport.abort()
        else:
            self._begin_waiting()
            self._check_reader_in(READER_PATIENCE_SECS)

    def begin_request(self, method: str, version: str) -> None:
        self._answered = method == "GET" and version == "1.1" and self._answer_at_once()
        if not self._answered:
            super().begin_request(method, version)
            if method != "HEAD":  # whose head nothing follows
                self.cycle.transport = HeldHead(self.transport)  # type: ignore[assignment]  # does what a cycle needs

    def _answer_at_once(self) -> bool:
        """Whether the answer lay ready in memory, and was given without the application being run."""
        idle = self.cycle is None or (self.cycle.response_complete and not self.pipeline)
        if self._at_once is None or not idle or self._piece_bytes > _SMALL_HEAD_BYTES or self.flow.write_paused:
            return False
        if not self.parser.should_keep_alive():
            return False
        try:
            answer = self._at_once(self.url, self.headers, self.client[0] if self.client else None)
        except Exception:
            log.exception("an answer from memory failed")
            return False
        if answer is None:
            return False
        head, body = answer
        dated = b"".join([b"%b: %b\r\n" % header for header in self.server_state.default_headers])
        write_both(self.transport, head + dated + b"\r\n", body)
        self.server_state.total_requests += 1
        if self.timeout_keep_alive_task is None:
            self._wait_for_more(self.timeout_keep_alive)
        return True

    def _wait_for_more(self, secs: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(secs, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for long enough; one at work is given a new timer at its end."""
        self.timeout_keep_alive_task = None
        if not (self.cycle is None or self.cycle.response_complete):
            return
        left = self._patient_until() - self.loop.time()
        if left > 0:
            self._wait_for_more(left)
        else:
            super().timeout_keep_alive_handler()

    def _patient_until(self) -> float:
        """When the next head must be complete, or have begun; in the past once nothing is waited for."""
        if self._in_head or not self._heads:
            return self._head_since + HEAD_PATIENCE_SECS
        return self._active_at + self.timeout_keep_alive if self._answered else 0.0

    def hang_up(self, refusal: AppError | None = None) -> None:
        self._hung_up = True
        if self.transport.is_closing():
            return
        if refusal is not None:
            self.transport.write(_refusal_bytes(refusal))
        # Closing at once would reset the connection, and a client that is still sending would never read the answer.
        self.transport.write_eof()
        self.loop.call_later(_LINGER_SECS, self.transport.close)

    def ignore(self, size: int) -> None:
        if self._hung_up:
            self._swallowed += size
        if self._swallowed > _LINGER_BYTES:
            self.transport.close()


def _refusal_bytes(refusal: AppError) -> bytes:
    body = encode_error(refusal)
    head = (
        f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}\r\ncontent-type: application/json\r\n"
        f"x-request-id: {request_id(None)}\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
