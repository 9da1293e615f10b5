"""The newest part of the log in memory, as ready-made frames that all streams of the process share."""

from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from aitp_cp.events.model import Event, HistoryFilter
from aitp_cp.protocol.json_lines import one_line


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One event as bytes on the wire, with what streams filter by."""

    seq: int
    type: str
    run_id: str | None
    aid_a: str | None
    aid_b: str | None
    data: bytes


def frame(event: Event) -> Frame:
    """Encode an event once; never an `event:` line, for clients listen to unnamed messages only."""
    seq = event.seq or 0
    data = b"id: %d\ndata: %b\n\n" % (seq, one_line(msgspec.json.encode(event)))
    return Frame(seq, event.type, event.run_id, event.aid_a, event.aid_b, data)


def passes(wanted: HistoryFilter, one: Frame) -> bool:
    """Whether a stream with this filter shows the frame; the aid may be on either side."""
    return (
        (wanted.type is None or wanted.type == one.type)
        and (wanted.run_id is None or wanted.run_id == one.run_id)
        and (wanted.aid is None or wanted.aid in (one.aid_a, one.aid_b))
    )


class Ring:
    """Frames in log order, addressed by a position that counts every frame ever appended.

    Holds at most `max_bytes` and the newest `window` of them, or `keep` if that is more.
    """

    def __init__(self, keep: int, *, window: int, max_bytes: int) -> None:
        self._keep = keep
        self._limit = max(keep, window)
        self._max_bytes = max_bytes
        self._frames: list[Frame] = []
        self._bytes = 0
        self._floor = 0
        self.base = 0

    @property
    def end(self) -> int:
        return self.base + len(self._frames)

    def begin(self, seq: int) -> None:
        """Drop every frame; what comes after `seq` will be appended."""
        self.base = self.end
        self._frames = []
        self._bytes = 0
        self._floor = seq

    def append(self, frames: Sequence[Frame]) -> int:
        """Add frames and let the oldest go; how many of those to be kept had to go for want of bytes."""
        self._frames.extend(frames)
        self._bytes += sum(len(one.data) for one in frames)
        self._drop(len(self._frames) - self._limit)
        missed = 0
        while self._bytes > self._max_bytes:
            missed += len(self._frames) <= self._keep
            self._drop(1)
        return missed

    def _drop(self, count: int) -> None:
        if count <= 0:
            return
        self._bytes -= sum(len(one.data) for one in self._frames[:count])
        self._floor = self._frames[count - 1].seq
        self.base += count
        del self._frames[:count]

    def before_newest(self) -> int:
        """In the log: the place after which those to be kept come, where a stream without a cursor starts."""
        first = max(0, len(self._frames) - self._keep)
        return self._frames[first - 1].seq if first else self._floor

    def position_after(self, seq: int) -> int | None:
        """Where the first frame after `seq` is or will be; None when it may be gone from here."""
        if seq < self._floor:
            return None
        return self.base + bisect_right(self._frames, seq, key=lambda one: one.seq)

    def at(self, position: int) -> Frame:
        return self._frames[position - self.base]
