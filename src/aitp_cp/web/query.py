"""Query strings: both spellings of a name, clamped paging, clear errors."""

from datetime import datetime
from urllib.parse import parse_qsl
from uuid import UUID

from starlette.requests import Request

from aitp_cp.db.keyset import Order, Window
from aitp_cp.errors import AppError, BadRequest, FilterInvalid, OffsetTooLarge
from aitp_cp_client.wire import moments
from aitp_cp_client.wire.aid import spelled

MAX_FIELDS = 100
MAX_OFFSET = 100_000  # the rows skipped are read all the same: a second or so at 5 million


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


class Query:
    """The filters of one request; an empty value counts as not given."""

    def __init__(self, raw: bytes) -> None:
        try:
            pairs = parse_qsl(raw.decode("latin-1"), max_num_fields=MAX_FIELDS)
        except ValueError as refused:
            raise BadRequest("the query string is not valid") from refused
        self._values: dict[str, str] = {}
        for name, value in pairs:
            self._values.setdefault(name, value)

    @classmethod
    def of(cls, request: Request) -> "Query":
        return cls(request.scope["query_string"])

    def text(self, name: str, alias: str | None = None) -> str | None:
        """The filter under its snake_case or camelCase name, or an older `alias`."""
        value = self._find(name, alias)
        if value is not None and "\0" in value:
            raise FilterInvalid(f"{name} holds a NUL character")
        return value

    def aid(self, name: str) -> str | None:
        """An AID in its canonical spelling; whatever else was given, as it came."""
        value = self.text(name)
        return None if value is None else spelled(value)

    def flag(self, name: str) -> bool:
        value = self.text(name)
        return value is not None and value.lower() in {"true", "1", "yes"}

    def limit(self, default: int, maximum: int, name: str = "limit") -> int:
        return max(1, min(self._integer(name, default), maximum))

    def offset(self) -> int:
        """Rows to skip; raises `OffsetTooLarge`."""
        offset = max(0, self._integer("offset", 0))
        if offset > MAX_OFFSET:
            raise OffsetTooLarge
        return offset

    def window(self, order: Order, default: int, maximum: int) -> Window:
        """The page that is asked for: after `offset` rows, or after the cursor `before`. Raises `FilterInvalid`."""
        limit, offset, before = self.limit(default, maximum), self.offset(), self.text("before")
        if before is None:
            return Window(limit, offset)
        if offset:
            raise FilterInvalid("before and offset exclude each other")
        return Window(limit, before=order.read(before))

    def moment(self, name: str, refusal: type[AppError] = FilterInvalid) -> datetime | None:
        """An ISO-8601 time, or epoch seconds or milliseconds as digits; without an offset it is UTC."""
        value = self.text(name)
        if value is None:
            return None
        moment = parse_moment(value)
        if moment is None:
            raise refusal(f"{name} is not an ISO-8601 time")
        return moment

    def uuid(self, name: str, refusal: type[AppError] = FilterInvalid) -> UUID | None:
        value = self.text(name)
        if value is None:
            return None
        try:
            return UUID(value)
        except ValueError:
            raise refusal(f"{name} is not a UUID") from None

    def _find(self, name: str, alias: str | None = None) -> str | None:
        spellings = (name, camel(name), alias)
        return next((value for spelling in spellings if spelling and (value := self._values.get(spelling))), None)

    def _integer(self, name: str, default: int) -> int:
        value = (self._find(name) or "").strip()
        digits = value[1:] if value[:1] in {"-", "+"} else value
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 4000:
            return default
        return int(value)


def parse_moment(value: str) -> datetime | None:
    """A time within the years 1970 to 9999, or None."""
    text = value.strip()
    # An unescaped "+00:00" arrives as " 00:00": a plus sign is a space in a query string.
    return moments.from_text(text) or moments.from_text("+".join(text.rsplit(" ", 1)))
