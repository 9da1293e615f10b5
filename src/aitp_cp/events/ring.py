"""The newest part of the log in memory, as ready-made frames that all streams of the process share."""

from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from aitp_cp.events.model import Event, HistoryFilter, type_prefix
from aitp_cp.protocol.json_lines import one_line


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One event as bytes on the wire, with what streams filter by."""

    seq: int
    type: str
    run_id: str | None
    aid_a: str | None
    aid_b: str | None
    data: bytes
    reported_by: str | None = None
    proof: str | None = None


def frame_of(event: Event) -> Frame:
    """Encode an event once; never an `event:` line, for clients listen to unnamed messages only."""
    seq = event.seq or 0
    data = b"id: %d\ndata: %b\n\n" % (seq, one_line(msgspec.json.encode(event)))
    return Frame(seq, event.type, event.run_id, event.aid_a, event.aid_b, data, event.reported_by, event.proof)


def passes(filter: HistoryFilter, frame: Frame) -> bool:
    """Return whether a stream with this filter shows the frame; the aid may be on either side."""
    return (
        (filter.type is None or filter.type == frame.type or _begins(filter.type, frame.type))
        and (filter.run_id is None or filter.run_id == frame.run_id)
        and (filter.aid is None or filter.aid in (frame.aid_a, frame.aid_b))
        and (filter.reported_by is None or filter.reported_by == frame.reported_by)
        and (filter.proof is None or filter.proof == frame.proof)
    )


def _begins(filter_type: str, type: str) -> bool:
    prefix = type_prefix(filter_type)
    return prefix is not None and type.startswith(prefix)


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
        """Drop every frame; the next one appended follows `seq`."""
        self.base = self.end
        self._frames = []
        self._bytes = 0
        self._floor = seq

    def append(self, frames: Sequence[Frame]) -> int:
        """Add frames and drop the oldest; returns how many of the `keep` newest did not fit into `max_bytes`."""
        self._frames.extend(frames)
        self._bytes += sum(len(frame.data) for frame in frames)
        self._drop(len(self._frames) - self._limit)
        missed = 0
        while self._bytes > self._max_bytes:
            missed += len(self._frames) <= self._keep
            self._drop(1)
        return missed

    def _drop(self, count: int) -> None:
        if count <= 0:
            return
        self._bytes -= sum(len(frame.data) for frame in self._frames[:count])
        self._floor = self._frames[count - 1].seq
        self.base += count
        del self._frames[:count]

    def before_newest(self) -> int:
        """Return the position of the log after which a stream without a cursor starts."""
        first = max(0, len(self._frames) - self._keep)
        return self._frames[first - 1].seq if first else self._floor

    def position_after(self, seq: int) -> int | None:
        """Return where the first frame after `seq` is or will be; None when it may have been dropped."""
        if seq < self._floor:
            return None
        return self.base + bisect_right(self._frames, seq, key=lambda frame: frame.seq)

    def at(self, position: int) -> Frame:
        return self._frames[position - self.base]
