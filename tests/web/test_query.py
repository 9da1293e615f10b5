from contextlib import suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitp_cp.errors import BadRequest, FilterInvalid, OffsetTooLarge
from aitp_cp.web.query import Query


def query(raw: str = "", **fields: str) -> Query:
    return Query((raw or urlencode(fields)).encode())


@pytest.mark.parametrize("name", ["run_id", "session_id", "display_name", "root_jti", "parent_jti"])
def test_both_spellings_of_a_filter_are_accepted(name: str) -> None:
    head, tail = name.split("_")
    assert query(**{name: "x"}).text(name) == "x"
    assert query(**{head + tail.capitalize(): "x"}).text(name) == "x"
    assert query(**{name.upper(): "x"}).text(name) is None


def test_an_empty_filter_is_no_filter() -> None:
    assert query("run_id=&runId=a").text("run_id") == "a"
    assert query("run_id=").text("run_id") is None


def test_percent_escapes_plus_signs_and_strange_bytes() -> None:
    assert query("aid=a%3Ab+c%20d").text("aid") == "a:b c d"
    assert query("aid=%C3%A4").text("aid") == "ä"
    assert query("aid=%ED%A0%80%FF").text("aid") == "\N{REPLACEMENT CHARACTER}" * 4
    with pytest.raises(FilterInvalid):
        query("aid=a%00b").text("aid")


def test_more_fields_than_anyone_needs_are_refused() -> None:
    with pytest.raises(BadRequest):
        query("&".join(["a=b"] * 101))


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("1", 1),
        ("1000", 1000),
        ("1001", 1000),
        ("9" * 400, 1000),
        ("0", 1),
        ("-5", 1),
        ("-" + "9" * 400, 1),
        (" 7 ", 7),
        ("", 100),
        ("ten", 100),
        ("1.5", 100),
        ("1e3", 100),
        ("0x10", 100),
        ("1_000", 100),
        ("٣", 100),
        ("NaN", 100),
        ("--5", 100),
        ("5\0", 100),
    ],
)
def test_limit_is_clamped_and_garbage_is_the_default(text: str, limit: int) -> None:
    assert query(limit=text).limit(100, 1000) == limit


@pytest.mark.parametrize(("text", "offset"), [("3", 3), ("-3", 0), ("x", 0), ("", 0), ("1.5", 0)])
def test_offset_is_clamped_and_garbage_is_none(text: str, offset: int) -> None:
    assert query(offset=text).offset() == offset


@given(st.text())
def test_paging_never_fails_and_fits_the_database(text: str) -> None:
    fields = query(limit=text, offset=text)
    assert 1 <= fields.limit(200, 1000) <= 1000
    with suppress(OffsetTooLarge):
        assert 0 <= fields.offset() <= 100_000


MOMENT = datetime(2026, 5, 25, 12, 0, 0, 250_000, UTC)


@pytest.mark.parametrize(
    "raw",
    [
        "since=2026-05-25T12:00:00.250Z",
        "since=2026-05-25T12:00:00.250999Z",
        "since=2026-05-25T14:00:00.250%2B02:00",
        "since=2026-05-25T14:00:00.250+02:00",
        "since=2026-05-25T12:00:00.250",
        "since=1779710400250",
    ],
)
def test_the_spellings_of_a_moment(raw: str) -> None:
    assert query(raw).moment("since") == MOMENT


def test_a_day_is_its_midnight() -> None:
    assert query("since=2026-05-25").moment("since") == MOMENT - timedelta(hours=12, milliseconds=250)
    assert query().moment("since") is None


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "1969-12-31", "99999-01-01", "9" * 30, "1", "٢٠٢٦-٠٥-٢٥"])
def test_what_is_no_moment_is_refused_by_name(text: str) -> None:
    with pytest.raises(FilterInvalid, match="since"):
        query(since=text).moment("since")


def test_uuids_in_any_spelling_or_refused_by_name() -> None:
    jti = "9B1C9A3E-0C0F-4B7E-9D6E-0D1E2F3A4B5C"
    assert query(root_jti=jti).uuid("root_jti") == UUID(jti)
    with pytest.raises(BadRequest, match="root_jti"):
        query(rootJti="x").uuid("root_jti", BadRequest)


@pytest.mark.parametrize(("text", "on"), [("true", True), ("TRUE", True), ("1", True), ("false", False), ("no", False)])
def test_flags(text: str, on: bool) -> None:
    assert query(include_manifest=text).flag("include_manifest") is on
    assert query(includeManifest=text).flag("include_manifest") is on
