from hypothesis import given
from hypothesis import strategies as st

from aitp_cp.events.model import HistoryFilter
from aitp_cp.events.ring import Frame, Ring, passes

frames = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 40)), max_size=12)


def make(seq: int, size: int = 1) -> Frame:
    return Frame(seq, "t", None, None, None, b"x" * size)


@given(
    batches=st.lists(frames, max_size=8), keep=st.integers(0, 20), window=st.integers(0, 20), start=st.integers(0, 5)
)
def test_a_ring_is_the_end_of_the_log(batches: list[list[tuple[int, int]]], keep: int, window: int, start: int) -> None:
    """Against a plain list of everything ever appended."""
    ring, log, seq = Ring(keep, window=window, max_bytes=200), [], start
    ring.begin(start)
    for batch in batches:
        new = []
        for step, size in batch:
            seq += step
            new.append(make(seq, size))
        log += new
        ring.append(new)
        held = [ring.at(position) for position in range(ring.base, ring.end)]
        assert ring.end == len(log)
        assert held == log[ring.base :]
        assert len(held) <= max(keep, window)
        assert sum(len(frame.data) for frame in held) <= 200
        newest = held[max(0, len(held) - keep) :]
        assert [frame for frame in held if frame.seq > ring.before_newest()] == newest
        for cursor in range(start, seq + 3):
            position = ring.position_after(cursor)
            after = [frame for frame in log if frame.seq > cursor]
            if position is None:
                assert len(after) > len(held)
            else:
                assert log[position:] == after


def test_nothing_before_the_beginning_is_promised() -> None:
    ring = Ring(5, window=5, max_bytes=100)
    ring.begin(10)
    assert ring.position_after(9) is None
    assert ring.position_after(10) == 0
    assert ring.position_after(11) == 0


def test_only_frames_that_should_be_kept_count_as_missed() -> None:
    ring = Ring(2, window=10, max_bytes=50)
    assert ring.append([make(seq, 10) for seq in range(1, 9)]) == 0
    assert ring.end - ring.base == 5
    assert ring.append([make(9, 45)]) == 1
    assert ring.append([make(10, 60)]) == 2
    assert ring.base == ring.end == 10


def test_either_side_passes() -> None:
    frame = Frame(1, "a", "r", "aid:x", "aid:y", b"")
    assert all(passes(HistoryFilter(aid=aid), frame) for aid in (None, "aid:x", "aid:y"))
    assert not passes(HistoryFilter(aid="aid:z"), frame)
    assert passes(HistoryFilter(type="a", run_id="r", aid="aid:y"), frame)
    assert not passes(HistoryFilter(type="a", run_id="other"), frame)
    assert not passes(HistoryFilter(run_id="r"), make(1))
