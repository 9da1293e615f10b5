"""The connection below the application: what is not HTTP, or too much of it, is answered in the one error shape."""

import asyncio
from http import HTTPStatus
from typing import Any

import structlog

from aitp_cp.errors import AppError
from aitp_cp.web.client_ip import UNKNOWN
from aitp_cp.web.connections import Connections, Unsent
from aitp_cp.web.context import request_id
from aitp_cp.web.framing import FramedProtocol
from aitp_cp.web.responses import encode_error

MAX_QUERY_BYTES = 16 * 1024
MAX_PATH_BYTES = 8 * 1024
MAX_HEADER_BYTES = 8 * 1024
# How long a connection may be open without a request, or the head of one may take to arrive.
HEAD_PATIENCE_SECS = 20.0
# How long the body of a request may arrive that has been answered already.
BODY_PATIENCE_SECS = 30.0

# A head that came whole and small needs no further judgement before it is answered from memory.
_SMALL_HEAD_BYTES = 4 * 1024
_COPIED_BYTES = 32 * 1024
_LINGER_BYTES = 4 * 1024 * 1024
_LINGER_SECS = 2.0

log = structlog.get_logger("aitp_cp.http")


class HeldHead:
    """Writes to a transport; an answer's head waits for what follows, so that both leave in one call of the system.

    Nothing follows the head of an answer to HEAD, which is not held. What comes after the end of the connection is
    dropped: uvloop would raise for it until the application has been told.
    """

    __slots__ = ("_head", "_holds", "_transport", "_unsent")

    def __init__(self, transport: asyncio.Transport, unsent: Unsent, *, holds: bool = True) -> None:
        self._transport = transport
        self._unsent = unsent
        self._holds = holds
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._transport.is_closing():
            self._head = b""
        elif self._head:
            head, self._head = self._head, b""
            self.write_both(head, data)
        elif self._holds and data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 1"):
            self._head = data
        else:
            self._unsent.written += len(data)
            self._transport.write(data)

    def write_both(self, head: bytes, body: bytes) -> None:
        """In one call of the system: copying what is small is cheaper than describing two pieces."""
        self._unsent.written += len(head) + len(body)
        if len(body) <= _COPIED_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    def close(self) -> None:
        if self._head:
            self.write(b"")
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


class JsonHttpProtocol(FramedProtocol):
    """Bounds for how long one connection may wait for its client; says what is wrong with a head."""

    requests = 0
    _hung_up = False
    _swallowed = 0
    _answered = False  # the request at hand, from memory

    def __init__(self, *arguments: Any, connections: Connections | None = None, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._at_once = getattr(self.app, "at_once", None)
        self._all = connections or Connections()
        self.unsent = Unsent()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.active_at = self._head_since = self.loop.time()
        self._all.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._all.closed(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._all.hurry()

    # -- what the sweep over all connections asks (web/connections.py) ------------------------------

    @property
    def queued(self) -> int:
        return len(self.pipeline)

    def busy(self) -> bool:
        """Whether an answer is due."""
        return self._running is not None and not self._running.response_complete

    def unsent_bytes(self) -> int:
        return self.transport.get_write_buffer_size()

    def overdue(self, now: float) -> bool:
        """Whether its client has been waited for long enough."""
        if self._hung_up or self.busy():
            return False
        if self._in_head or not self._heads:
            return now > self._head_since + HEAD_PATIENCE_SECS
        if self._in_body:
            return now > self._head_since + BODY_PATIENCE_SECS
        return now > self.active_at + self.timeout_keep_alive

    def close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def abort(self) -> None:
        self.transport.abort()

    # -- answers -------------------------------------------------------------------------------------

    def begin_request(self, method: str, version: str) -> None:
        self.requests += 1
        self._answered = method == "GET" and version == "1.1" and self._answer_at_once()
        if not self._answered:
            super().begin_request(method, version)
            held = HeldHead(self.transport, self.unsent, holds=method != "HEAD")
            self.cycle.transport = held  # type: ignore[assignment]  # it does what a cycle needs

    def _answer_at_once(self) -> bool:
        """Whether the answer lay ready in memory, and was given without the application being run."""
        if self._at_once is None or self.busy() or self._piece_bytes > _SMALL_HEAD_BYTES or self.flow.write_paused:
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
        HeldHead(self.transport, self.unsent).write_both(head + dated + b"\r\n", body)
        self.server_state.total_requests += 1
        return True

    def turn_away(self, refusal: AppError, *, executed: bool) -> AppError:
        return self._all.turned_away(self.client[0] if self.client else UNKNOWN, refusal, executed=executed)

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
    more = "".join(f"{name.lower()}: {value}\r\n" for name, value in refusal.headers.items())
    head = (
        f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}\r\ncontent-type: application/json\r\n"
        f"x-request-id: {request_id(None)}\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n"
        f"{more}content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
