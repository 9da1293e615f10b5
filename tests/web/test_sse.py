import asyncio
from types import SimpleNamespace

import uvloop
from hypothesis import given
from hypothesis import strategies as st

from aitp_cp.web import sse
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


def test_a_client_that_left_before_its_stream_began_is_no_failure() -> None:
    """As happens to whoever leaves a page of the console at once; uvloop refuses to set up a closed connection."""

    async def main() -> None:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.close()
        await writer.wait_closed()
        assert sse._bound(SimpleNamespace(transport=writer.transport)) is writer.transport
        server.close()

    uvloop.run(main())
