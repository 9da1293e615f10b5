"""Query strings, read into the struct that an endpoint declares.

Each described field of the struct is one parameter, accepted in snake_case and camelCase. Its type decides how the text
is read, and the same type describes it in the OpenAPI document (`web/schemas.py`):

| field                | text that is accepted                                                  | otherwise            |
|----------------------|------------------------------------------------------------------------|----------------------|
| `str`, `AidFilter`   | any without NUL; an AID becomes its canonical spelling                 | `FilterInvalid`      |
| `bool`               | `true`, `1`, `yes`, `on` or `false`, `0`, `no`, `off`, in any case     | `REFUSAL`            |
| `int`                | digits with or without a sign, clamped to the bounds of the field      | the field's default  |
| `datetime`           | ISO-8601, epoch seconds or milliseconds; UTC without an offset         | `REFUSAL`            |
| `UUID`, a closed set | a UUID as Python spells it; one value of the enum or `Literal`         | `REFUSAL`            |

`REFUSAL` is `FilterInvalid` unless the struct names another error. The first of repeated parameters counts, an empty
value counts as absent, and unknown parameters are ignored.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
from msgspec import Meta
from msgspec.inspect import (
    BoolType,
    DateTimeType,
    EnumType,
    Field,
    IntType,
    LiteralType,
    Metadata,
    StructType,
    UnionType,
    UUIDType,
)
from starlette.requests import Request

from aitp_cp.db.keyset import Order, Window
from aitp_cp.errors import AppError, BadRequest, FilterInvalid, OffsetTooLarge
from aitp_cp_client.wire import moments
from aitp_cp_client.wire.aid import spelled

MAX_FIELDS = 100
MAX_OFFSET = 100_000  # Postgres reads the rows it skips: about a second at 5 million
MAX_DIGITS = 4000  # Python refuses to convert longer ones
BOOLEANS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)

IS_AID = {"aid": True}
AidFilter = Annotated[str, Meta(extra=IS_AID)]
Limit = Annotated[int, Meta(ge=1, le=1000, description="number of rows, clamped")]
EventLimit = Annotated[int, Meta(ge=1, le=10_000, description="number of events, clamped")]

Values = Mapping[str, str]
Shape = TypeVar("Shape", bound=msgspec.Struct)


class PageQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How every list is read page by page."""

    limit: Limit = 100
    offset: Annotated[
        int,
        Meta(
            ge=0,
            description="rows to skip, at least 0; `OFFSET_TOO_LARGE` beyond the maximum",
            extra_json_schema={"maximum": MAX_OFFSET},
        ),
    ] = 0
    before: Annotated[
        str | None, Meta(description="continue after this cursor: `nextBefore` of the previous page; excludes `offset`")
    ] = None

    def window(self, order: Order) -> Window:
        """Return which rows of a list in `order` to read; raises `OffsetTooLarge` and `FilterInvalid`."""
        if self.offset > MAX_OFFSET:
            raise OffsetTooLarge
        if self.before is None:
            return Window(self.limit, self.offset)
        if self.offset:
            raise FilterInvalid("before and offset exclude each other")
        return Window(self.limit, before=order.read(self.before))


class WholeList(PageQuery, frozen=True, kw_only=True, rename="camel"):
    """A list that once had no limit: this one is more rows than an administrator creates."""

    limit: Annotated[int, Meta(ge=1, le=10_000, description="number of rows, clamped")] = 10_000


@dataclass(frozen=True, slots=True)
class Parameter:
    """A described field: its name, the spellings that are accepted, and the reader of its text."""

    field: str
    spellings: tuple[str, str]
    read: Callable[[str], Any]

    def find(self, values: Values) -> str | None:
        """Return the first non-empty value."""
        first, second = self.spellings
        return values.get(first) or values.get(second)


def read_query(request: Request, shape: type[Shape]) -> Shape:
    """Return the query of a request as `shape`; raises `BadRequest`, `FilterInvalid` or the shape's `REFUSAL`."""
    return decode_query(request.scope["query_string"], shape)


def decode_query(raw: bytes, shape: type[Shape]) -> Shape:
    """Return a query string as `shape`, with the default of each field that it does not give."""
    values = _values(raw)
    members = {}
    for parameter in parameters(shape):
        text = parameter.find(values)
        if text is not None:
            members[parameter.field] = parameter.read(text)
    return shape(**members)


def described(shape: type) -> list[Field]:
    """Return the fields that are parameters, those of `PageQuery` last."""
    struct = msgspec.inspect.type_info(shape)
    assert isinstance(struct, StructType)
    fields = [field for field in struct.fields if "description" in (_meta(field.type).extra_json_schema or {})]
    return sorted(fields, key=lambda field: field.name in PageQuery.__struct_fields__)


@cache
def parameters(shape: type) -> tuple[Parameter, ...]:
    """Return how to read each parameter of `shape`, in the order of the document."""
    fields = described(shape)
    return tuple(Parameter(field.name, (field.name, camel(field.name)), _reader(shape, field)) for field in fields)


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def parse_moment(value: str) -> datetime | None:
    """Return a time within the years 1970 to 9999, or None."""
    text = value.strip()
    # An unescaped "+00:00" arrives as " 00:00": a plus sign is a space in a query string.
    return moments.from_text(text) or moments.from_text("+".join(text.rsplit(" ", 1)))


def _values(raw: bytes) -> Values:
    try:
        pairs = parse_qsl(raw.decode("latin-1"), max_num_fields=MAX_FIELDS)
    except ValueError as refused:
        raise BadRequest("the query string is not valid") from refused
    return dict(reversed(pairs))  # the first of repeated ones


def _meta(kind: Any) -> Metadata:
    return kind if isinstance(kind, Metadata) else Metadata(kind)


def _reader(shape: type, field: Field) -> Callable[[str], Any]:
    """Return the reader of one field, from its type without None."""
    outer = _meta(field.type).type
    inner = _meta(outer.types[0] if isinstance(outer, UnionType) else outer)
    kind, refusal = inner.type, getattr(shape, "REFUSAL", FilterInvalid)
    if isinstance(kind, IntType):
        return partial(_integer, kind, field.default)
    name = camel(field.name)  # as the document has it
    text = partial(_text, name)
    if isinstance(kind, BoolType):
        return _strict(lambda value: BOOLEANS.get(text(value).lower()), refusal, f"{name} is true or false")
    if isinstance(kind, DateTimeType):
        return _strict(lambda value: parse_moment(text(value)), refusal, f"{name} is not an ISO-8601 time")
    if isinstance(kind, UUIDType):
        return _strict(lambda value: _uuid(text(value)), refusal, f"{name} is not a UUID")
    if isinstance(kind, EnumType):
        return _one_of({member.value: member for member in kind.cls}, text, refusal, name)
    if isinstance(kind, LiteralType):
        return _one_of({str(value): value for value in kind.values}, text, refusal, name)
    return (lambda value: spelled(text(value))) if inner.extra == IS_AID else text


def _one_of(
    values: Mapping[str, Any], text: Callable[[str], str], refusal: type[AppError], name: str
) -> Callable[[str], Any]:
    return _strict(lambda value: values.get(text(value)), refusal, f"{name} is {' or '.join(values)}")


def _strict(parse: Callable[[str], Any], refusal: type[AppError], sentence: str) -> Callable[[str], Any]:
    """Return a reader that raises `refusal` where `parse` returns None."""

    def read(text: str) -> Any:
        value = parse(text)
        if value is None:
            raise refusal(sentence)
        return value

    return read


def _text(name: str, text: str) -> str:
    if "\0" in text:
        raise FilterInvalid(f"{name} holds a NUL character")
    return text


def _integer(kind: IntType, default: int, text: str) -> int:
    text = text.strip()
    digits = text[1:] if text[:1] in {"-", "+"} else text
    if not (digits.isascii() and digits.isdigit()) or len(digits) > MAX_DIGITS:
        return default
    value = int(text)
    value = value if kind.le is None else min(value, kind.le)
    return value if kind.ge is None else max(value, kind.ge)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
