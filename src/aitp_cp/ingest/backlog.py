"""Bounds the bodies that one process reads and has not yet stored (contract, section 9)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from aitp_cp.errors import IngestBusy

MAX_WAITING_BYTES = 32 * 1024 * 1024  # 128 of the largest bodies; what is made of them takes about ten times as much


class Backlog:
    """Counts the bytes of bodies from their first chunk to the response."""

    def __init__(self, gauge: Gauge, limit: int = MAX_WAITING_BYTES) -> None:
        self.limit = limit
        self.bytes = 0
        self._gauge = gauge

    @contextmanager
    def body(self) -> Iterator[Callable[[int], None]]:
        """Count one body with the function given, which raises `IngestBusy` beyond the limit; forget it at the end."""
        held = 0

        def take(size: int) -> None:
            nonlocal held
            if self.bytes + size > self.limit:
                raise IngestBusy(headers={"Retry-After": "1"})
            held += size
            self._add(size)

        try:
            yield take
        finally:
            self._add(-held)

    def _add(self, size: int) -> None:
        self.bytes += size
        self._gauge.set(self.bytes)
