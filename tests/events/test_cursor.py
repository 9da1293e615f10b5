import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitp_cp.events.cursor import UNKNOWN, judge, oldest, parse, reset_frame
from aitp_cp.events.model import LogExtent

places = st.integers(1, 30)


@pytest.mark.parametrize(
    ("text", "cursor"), [(None, None), ("", None), ("0", 0), ("007", 7), (str(2**63 - 1), 2**63 - 1)]
)
def test_positions(text: str | None, cursor: int | None) -> None:
    assert parse(text) == cursor


@pytest.mark.parametrize("text", ["-1", "+1", "1.0", "abc", " 1", "١", "²", str(2**63), "9" * 5000])
def test_what_is_no_position(text: str) -> None:
    assert parse(text) == UNKNOWN


@given(st.text("0123456789 -+.e²١", max_size=25))
def test_any_text_is_a_position_or_unknown(text: str) -> None:
    assert parse(text) is None or parse(text) == UNKNOWN or str(parse(text)) == text.lstrip("0") or parse(text) == 0


@given(given_out=st.sets(places), burnt=st.sets(places), swept=st.sets(places), data=st.data())
def test_a_client_is_told_exactly_when_it_has_missed_something(
    given_out: set[int], burnt: set[int], swept: set[int], data: st.DataObject
) -> None:
    """Any log with gaps of rollbacks and holes of retention; the cursor is an event once sent, or the beginning."""
    rows = given_out - burnt
    left = rows - swept
    extent_of = LogExtent(
        min(left, default=None), max(left, default=None), max(rows & swept, default=0), holds_cursor=False
    )
    cursor = data.draw(st.sampled_from([0, *sorted(rows)]))
    extent = LogExtent(extent_of.oldest, extent_of.newest, extent_of.deleted_through, cursor in left)
    missed = any(place > cursor for place in rows & swept)
    gone = cursor in swept and (cursor == extent.deleted_through or not left or cursor < min(left))
    assert judge(cursor, extent) == ("cursor_expired" if missed or gone else "known")


@given(places, places)
def test_a_cursor_ahead_of_the_log_is_unknown(newest: int, ahead: int) -> None:
    extent = LogExtent(1, newest, 0, holds_cursor=False)
    assert judge(newest + ahead, extent) == "cursor_unknown"
    assert judge(UNKNOWN, extent) == "cursor_unknown"


def test_an_empty_log() -> None:
    empty = LogExtent(None, None, 0, holds_cursor=False)
    assert judge(0, empty) == "known"
    assert judge(1, empty) == "cursor_unknown"
    assert oldest(empty) == 1
    swept = LogExtent(None, None, 8, holds_cursor=False)
    assert [judge(cursor, swept) for cursor in (0, 3, 8)] == ["cursor_expired"] * 3
    assert oldest(swept) == 9


def test_the_reset_frame() -> None:
    frame = reset_frame("cursor_expired", LogExtent(7, 9, 6, holds_cursor=False))
    assert frame == b'event: reset\ndata: {"reason":"cursor_expired","oldest":7}\n\n'
