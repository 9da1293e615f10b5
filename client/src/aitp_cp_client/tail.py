"""A stream of server-sent events that reconnects."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from aitp_cp_client.errors import ANSWER_INVALID, ControlPlaneError
from aitp_cp_client.sse import Frame, Reader
from aitp_cp_client.transport import Call, Params, Transport

STREAM = "/api/events/stream"
MEDIA = "text/event-stream"
RETRY_MS = 3000
SHORTEST_WAIT_SECS = 0.1
LONGEST_WAIT_SECS = 30.0

Lost = Callable[[ControlPlaneError | None, float], None]


def quietly(error: ControlPlaneError | None, wait_secs: float) -> None:
    """Ignore a lost connection."""


class Tail:
    """Reads the stream, and reconnects after the last received id."""

    def __init__(
        self, transport: Transport, filters: Params, lost: Lost, *, last_id: str | None, origin: str | None = None
    ) -> None:
        self._transport = transport
        self._filters = filters
        self._lost = lost
        self._reader = Reader(RETRY_MS)
        self._last_id = last_id
        self._origin = origin  # the cursor to reconnect with if the first connection sent nothing
        self._connected = False  # at least once
        self._failures = 0  # consecutive
        self._error: ControlPlaneError | None = None

    def start_over(self, oldest: int | None) -> None:
        """Replace the cursor after a reset: continue before `oldest`, or without a cursor."""
        self._last_id = None if oldest is None else str(oldest - 1)
        self._origin = None

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """Yield messages for ever; raise `ControlPlaneError` if a reconnect cannot help."""
        while True:
            async with aclosing(self._until_lost()) as frames:
                async for frame in frames:
                    yield frame
            error = self._error
            if error is not None and not (self._connected and error.is_transient):
                raise error
            wait = self._wait(error)
            self._lost(error, wait)
            await asyncio.sleep(wait)

    async def _until_lost(self) -> AsyncGenerator[Frame, None]:
        """Yield the messages of one connection; keep its error in `_error`."""
        self._error = None
        try:
            async with aclosing(self._connection()) as frames:
                async for frame in frames:
                    yield frame
        except ControlPlaneError as failed:
            self._error = failed

    async def _connection(self) -> AsyncGenerator[Frame, None]:
        headers = {"Accept": MEDIA}
        cursor = self._origin if self._last_id is None and self._connected else self._last_id
        if cursor is not None:
            headers["Last-Event-ID"] = cursor
        self._reader = Reader(self._reader.retry_ms)  # drop a partial message: the server sends it again
        repeatable = not self._connected
        call = Call(path=STREAM, params=self._filters, headers=headers, repeatable=repeatable, media=MEDIA)
        async with aclosing(self._transport.chunks(call)) as chunks:
            async for chunk in chunks:
                self._connected, self._failures = True, 0
                for frame in self._read(chunk):
                    self._last_id = frame.id or self._last_id
                    yield frame

    def _read(self, chunk: bytes) -> list[Frame]:
        try:
            return list(self._reader.feed(chunk))
        except ValueError:
            pass
        raise ControlPlaneError(ANSWER_INVALID, "the response is not a stream of events")

    def _wait(self, error: ControlPlaneError | None) -> float:
        """Return the server's `retry`, doubled per consecutive failure, with jitter against a reconnect storm."""
        delay = self._reader.retry_ms / 1000 * 2.0 ** min(self._failures, 10) * random.uniform(1, 1.25)  # noqa: S311
        self._failures += 1
        retry_after = (error.retry_after if error else None) or 0.0
        return max(SHORTEST_WAIT_SECS, min(delay, LONGEST_WAIT_SECS), retry_after)
