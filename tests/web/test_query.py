from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlencode
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from aitp_cp.db.keyset import Key, Order, Window
from aitp_cp.errors import AppError, BadRequest, FilterInvalid, OffsetTooLarge
from aitp_cp.web.query import AidFilter, Limit, PageQuery, decode_query
from aitp_cp.web.schemas import parameters_of

JTI = "9B1C9A3E-0C0F-4B7E-9D6E-0D1E2F3A4B5C"
ORDER = Order("rows", Key("at", datetime, descending=True), Key("id", UUID))


class Format(StrEnum):
    JSON = "json"
    JSONL = "jsonl"


class Sample(PageQuery, frozen=True, kw_only=True, rename="camel"):
    aid: Annotated[AidFilter | None, Meta(description="an agent")] = None
    run_id: Annotated[str | None, Meta(description="a run")] = None
    session_id: Annotated[str | None, Meta(description="a session")] = None
    display_name: Annotated[str | None, Meta(description="a name")] = None
    status: Annotated[str, Meta(description="a status", extra_json_schema={"enum": ["new", "old"]})] = "new"
    include_manifest: Annotated[bool, Meta(description="more")] = False
    order: Annotated[Literal["asc", "desc"] | None, Meta(description="an order")] = None
    since: Annotated[datetime | None, Meta(description="a time")] = None
    limit: Limit = 200
    internal: str | None = None


class Strict(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    REFUSAL: ClassVar[type[AppError]] = BadRequest

    root_jti: Annotated[UUID | None, Meta(description="a token")] = None
    parent_jti: Annotated[UUID | None, Meta(description="a parent")] = None
    format: Annotated[Format, Meta(description="a format")] = Format.JSON


def query(raw: str = "", **fields: str) -> Sample:
    return decode_query((raw or urlencode(fields)).encode(), Sample)


def strict(**fields: str) -> Strict:
    return decode_query(urlencode(fields).encode(), Strict)


@pytest.mark.parametrize("name", ["run_id", "session_id", "display_name"])
def test_both_spellings_of_a_filter_are_accepted(name: str) -> None:
    head, tail = name.split("_")
    assert getattr(query(**{name: "x"}), name) == "x"
    assert getattr(query(**{head + tail.capitalize(): "x"}), name) == "x"
    assert getattr(query(**{name.upper(): "x"}), name) is None


@pytest.mark.parametrize("name", ["root_jti", "parent_jti"])
def test_both_spellings_of_an_id_are_accepted(name: str) -> None:
    head, tail = name.split("_")
    assert getattr(strict(**{name: JTI}), name) == UUID(JTI)
    assert getattr(strict(**{head + tail.capitalize(): JTI}), name) == UUID(JTI)
    assert getattr(strict(**{name.upper(): JTI}), name) is None


def test_the_first_of_repeated_parameters_counts_and_unknown_ones_are_ignored() -> None:
    assert query("aid=a&aid=b&x=y").aid == "a"
    assert query("internal=a").internal is None


def test_an_empty_filter_is_no_filter() -> None:
    assert query("run_id=&runId=a").run_id == "a"
    assert query("run_id=").run_id is None


def test_percent_escapes_plus_signs_and_strange_bytes() -> None:
    assert query("aid=a%3Ab+c%20d").aid == "a:b c d"
    assert query("aid=%C3%A4").aid == "ä"
    assert query("aid=%ED%A0%80%FF").aid == "\N{REPLACEMENT CHARACTER}" * 4
    with pytest.raises(FilterInvalid):
        query("aid=a%00b")


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
    assert query(limit=text).limit == (200 if limit == 100 else limit)


@pytest.mark.parametrize(("text", "offset"), [("3", 3), ("-3", 0), ("x", 0), ("", 0), ("1.5", 0)])
def test_offset_is_clamped_and_garbage_is_none(text: str, offset: int) -> None:
    assert query(offset=text).window(ORDER).offset == offset


@given(st.text())
def test_paging_never_fails_and_fits_the_database(text: str) -> None:
    fields = query(limit=text, offset=text)
    assert 1 <= fields.limit <= 1000
    with suppress(OffsetTooLarge):
        assert 0 <= fields.window(ORDER).offset <= 100_000


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
    assert query(raw).since == MOMENT


def test_a_day_is_its_midnight() -> None:
    assert query("since=2026-05-25").since == MOMENT - timedelta(hours=12, milliseconds=250)
    assert query().since is None


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "1969-12-31", "99999-01-01", "9" * 30, "1", "٢٠٢٦-٠٥-٢٥"])
def test_what_is_no_moment_is_refused_by_name(text: str) -> None:
    with pytest.raises(FilterInvalid, match="since"):
        query(since=text)


def test_uuids_in_any_spelling_or_refused_by_name() -> None:
    assert strict(root_jti=JTI).root_jti == UUID(JTI)
    with pytest.raises(BadRequest, match="rootJti"):
        strict(rootJti="x")


def test_a_closed_value_is_refused_by_name() -> None:
    assert strict().format is strict(format="json").format is Format.JSON
    assert strict(format="jsonl").format is Format.JSONL
    with pytest.raises(BadRequest, match="format is json or jsonl"):
        strict(format="xml")
    assert query(order="asc").order == "asc"
    with pytest.raises(FilterInvalid, match="order is asc or desc"):
        query(order="up")


@pytest.mark.parametrize(
    ("on", "texts"), [(True, ("true", "TRUE", "1", "yes", "on")), (False, ("false", "0", "No", "off", ""))]
)
def test_flags(on: bool, texts: tuple[str, ...]) -> None:
    for text in texts:
        assert query(include_manifest=text).include_manifest is on
        assert query(includeManifest=text).include_manifest is on


@pytest.mark.parametrize("text", ["tru", "2", "y", " true", "none", "\0"])
def test_what_is_no_flag_is_refused_by_name(text: str) -> None:
    """A dry run that is misspelled must not become an act."""
    with pytest.raises(FilterInvalid, match="includeManifest"):
        query(include_manifest=text)


def test_a_window_is_by_offset_or_by_cursor() -> None:
    place = (MOMENT, UUID(JTI))
    assert query(limit="7", before=ORDER.cursor(place)).window(ORDER) == Window(7, 0, place)
    assert query(offset="100000").window(ORDER) == Window(200, 100_000)
    with pytest.raises(OffsetTooLarge):
        query(offset="100001").window(ORDER)
    with pytest.raises(FilterInvalid, match="exclude"):
        query(offset="1", before=ORDER.cursor(place)).window(ORDER)


def test_the_document_describes_what_is_read() -> None:
    """The parameters come from the struct: types, closed values, bounds and defaults, those of paging last."""
    shown = {parameter["name"]: parameter["schema"] for parameter in parameters_of(Sample)}
    assert list(shown)[-3:] == ["limit", "offset", "before"]
    assert "internal" not in shown
    assert shown["limit"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 200}
    assert shown["status"] == {"type": "string", "enum": ["new", "old"], "default": "new"}
    assert shown["aid"] == shown["since"] == {"type": "string"}
    assert shown["includeManifest"] == {"type": "boolean", "default": False}
    strictly = {parameter["name"]: parameter["schema"] for parameter in parameters_of(Strict)}
    assert strictly["rootJti"] == {"type": "string", "format": "uuid"}
    assert strictly["format"] == {"enum": ["json", "jsonl"], "default": "json"}
