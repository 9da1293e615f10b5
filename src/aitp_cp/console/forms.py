"""URL-encoded forms, the only bodies that the console takes."""

from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request

from aitp_cp.errors import BodyInvalid
from aitp_cp.web.body import read_body

MEDIA_TYPE = "application/x-www-form-urlencoded"
SENT = "aitp_cp.console.form"  # in the scope of a request
MAX_FIELDS = 2000  # a bulk action names each row that was ticked


class Form(msgspec.Struct, frozen=True):
    """What was filled in, in the order of the form."""

    fields: tuple[tuple[str, str], ...]

    def get(self, name: str, default: str = "") -> str:
        """Return the first value of a field without white space around it."""
        return next((value.strip() for key, value in self.fields if key == name), default)

    def filled(self, *names: str) -> dict[str, str]:
        """Return those of the fields that are filled in."""
        return {name: value for name in names if (value := self.get(name))}

    def all(self, name: str) -> list[str]:
        """Return every value of a field, such as the ticked rows."""
        return [value for key, value in self.fields if key == name]


async def read(request: Request) -> Form:
    """Return the form of a request, within the endpoint's limit of bytes; raises `BodyInvalid`, `PayloadTooLarge`."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise BodyInvalid(f"the console takes forms as {MEDIA_TYPE}")
    body = await read_body(request)
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError as refused:
        raise BodyInvalid("the form is not valid") from refused
    if any("\0" in value for _, value in fields):
        raise BodyInvalid("the form holds a NUL character")
    request.scope[SENT] = form = Form(tuple(fields))
    return form


def sent(request: Request) -> Form | None:
    """Return the form that the request was read to hold, None before that."""
    form: Form | None = request.scope.get(SENT)
    return form
