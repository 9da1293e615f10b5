"""Write log lines in a thread of its own, so that a slow reader or a full disk blocks nothing else."""

import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress

# The queue: about 16,000 lines, or three seconds at full load.
MAX_WAITING_BYTES = 4 * 1024 * 1024
# Lines of this interval are written in one call: waking the thread costs more than writing a line.
GATHER_SECS = 0.005
# The longest wait for a blocked reader at the end of the process.
FLUSH_SECS = 0.3
# Poll interval of a pipe that another process made non-blocking.
_RETRY_MS = 1000

Write = Callable[[bytes | memoryview], int]


def to_descriptor(number: int) -> Write:
    """Return a function that writes to this descriptor, which may be a pipe that another process made non-blocking."""

    def write(data: bytes | memoryview) -> int:
        while True:
            try:
                return os.write(number, data)
            except BlockingIOError:
                poll = select.poll()
                poll.register(number, select.POLLOUT)
                poll.poll(_RETRY_MS)

    return write


class LogWriter:
    """Writes whole lines in order. `line` never blocks and never raises: excess lines are dropped and counted."""

    def __init__(
        self,
        write: Write,
        *,
        on_drop: Callable[[int], None] = lambda lines: None,
        on_resume: Callable[[int], None] = lambda lines: None,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        """`on_drop` gets the number of lines just lost; `on_resume` their total, after the next successful write."""
        self.on_drop = on_drop
        self._on_resume = on_resume
        self._write = write
        self._max_waiting_bytes = max_waiting_bytes
        self._lock = threading.RLock()  # reentrant: a garbage-collected object may log inside `line`
        self._wake = threading.Lock()  # held while there is nothing to do
        self._wake.acquire()
        self._asleep = True
        self._thread: threading.Thread | None = None
        self._lines: list[bytes] = []
        self._bytes = 0  # of queued lines, and of lines being written
        self._dropped = 0  # since the last successful write
        self._torn = False

    def line(self, text: bytes) -> None:
        """Queue a line; `text` has no line end."""
        size = len(text) + 1
        with self._lock:
            fits = self._bytes + size <= self._max_waiting_bytes
            if fits:
                self._lines += (text, b"\n")
                self._bytes += size
            else:
                self._dropped += 1
            wake, self._asleep = self._asleep, False
        if wake:
            self._wake_thread()
        if not fits:
            self.on_drop(1)

    def _wake_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no thread available: the next line tries again
                self._thread, self._asleep = None, True
        self._wake.release()

    def flush(self, timeout: float = FLUSH_SECS) -> None:
        """Wait until every line is written, at most `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self._bytes and self._thread is not None and time.monotonic() < deadline:
            time.sleep(GATHER_SECS / 2)

    def _run(self) -> None:
        while True:
            self._wake.acquire()
            time.sleep(GATHER_SECS)
            while (lines := self._take()) is not None:
                self._write_lines(b"".join(lines))
                time.sleep(GATHER_SECS)

    def _take(self) -> list[bytes] | None:
        """Return the queued lines, or None when the thread may sleep."""
        with self._lock:
            if not self._lines:
                self._asleep = True
                return None
            lines, self._lines = self._lines, []
            return lines

    def _write_lines(self, data: bytes) -> None:
        lost = self._write_all(b"\n" + data if self._torn else data).count(b"\n")
        with self._lock:
            self._bytes -= len(data)
            dropped, self._dropped = self._dropped, 0
            if lost:
                self._dropped = dropped + lost
        with suppress(Exception):  # a failing callback must not end the thread
            if lost:
                self.on_drop(lost)
            elif dropped:
                self._on_resume(dropped)

    def _write_all(self, data: bytes) -> bytes:
        """Write; return the rest after a full disk, a broken pipe or a closed stream."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._write(rest) :]
                self._torn = bool(rest)
        except (OSError, ValueError):
            return bytes(rest)
        return b""
