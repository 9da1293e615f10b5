from hypothesis import given
from hypothesis import strategies as st

from aitp_cp.web.sse import CHUNK_BYTES, chunks

sizes = st.lists(st.integers(1, 3 * CHUNK_BYTES), max_size=12)


@given(sizes)
def test_chunks_hold_the_frames_in_order_and_none_is_too_large(wanted: list[int]) -> None:
    frames = [bytes([number % 251]) * size for number, size in enumerate(wanted)]
    pieces = list(chunks(frames))
    assert b"".join(pieces) == b"".join(frames)
    assert all(0 < len(piece) <= CHUNK_BYTES for piece in pieces)


def test_small_frames_travel_together() -> None:
    assert list(chunks([b"a" * 100] * 50)) == [b"a" * 5000]
    assert list(chunks([])) == []
