"""Server-sent events in chunks of any size."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from aitp_cp_client.sse import Frame, Reader

STREAM = (
    b"retry: 3000\n: connected\n\nid: 7\ndata: {}\n\n: heartbeat\n\nevent: reset\ndata: a\ndata: b\n\n"
    b"data\r\n\r\nid: 8\nretry: soon\nunknown: x\ndata:no space \xe2\x82\xac\n\n"
    b"id: 9\x00\ndata: c\n\ndata: never ended\n"
)
FRAMES = [
    Frame("", "{}", "7"),
    Frame("reset", "a\nb", "7"),
    Frame("", "", "7"),
    Frame("", "no space €", "8"),
    Frame("", "c", "8"),
]


@given(st.lists(st.integers(0, len(STREAM))))
def test_any_cut_gives_the_same_messages(cuts: list[int]) -> None:
    reader = Reader(1)
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in pairwise(edges)]
    assert [frame for piece in pieces for frame in reader.feed(piece)] == FRAMES
    assert reader.retry_ms == 3000
