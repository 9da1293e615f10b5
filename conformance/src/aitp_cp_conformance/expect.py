"""Assertions on responses; a failure names the request, the response and the expectation."""

import json
import re
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from aitp_cp_conformance.model import Broken
from aitp_cp_conformance.wire import Response

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def that(condition: object, complaint: str) -> None:
    if not condition:
        raise Broken(complaint)


def equal(actual: object, expected: object, what: str) -> None:
    if actual != expected:
        raise Broken(f"{what} is {actual!r}, not {expected!r}")


def status(response: Response, *expected: int) -> None:
    if response.status not in expected:
        raise Broken(f"{response}, not {' or '.join(map(str, expected))}")


def error(response: Response, expected: int, code: str) -> dict[str, Any]:
    """Check status, shape and code of an error; return its body."""
    status(response, expected)
    body: dict[str, Any] = response.json
    that(isinstance(body, dict), f"{response}; an error is a JSON object")
    that(isinstance(body.get("error"), str) and body["error"].strip(), f"{response}; `error` is no sentence")
    that(body.get("code") == code, f"{response}; its code is not {code}")
    return body


def header(response: Response, name: str, expected: str) -> None:
    """Check that the header occurs once, with this value."""
    values = response.headers.getall(name, [])
    if values != [expected]:
        raise Broken(f"{response.request} has {name}: {', '.join(values) or 'nothing'}, not {expected}")


def members(record: Any, names: Iterable[str], what: str) -> None:
    """Check that the record is an object with at least these members."""
    that(isinstance(record, dict), f"{what} is not an object")
    missing = [name for name in names if name not in record]
    that(not missing, f"{what} lacks {', '.join(missing)}")


def moment(value: object, what: str) -> datetime:
    """Parse a timestamp: ISO-8601 in UTC with `Z` and milliseconds."""
    if not isinstance(value, str) or _MOMENT.fullmatch(value) is None:
        raise Broken(f"{what} is {value!r}: not ISO-8601 UTC with Z and milliseconds")
    return datetime.fromisoformat(value)


def uuid(value: object, what: str) -> str:
    """Return the value if it is a UUID in lowercase with hyphens."""
    if not isinstance(value, str) or _UUID.fullmatch(value) is None:
        raise Broken(f"{what} is {value!r}, not a UUID")
    return value


def rows(response: Response, name: str) -> list[Any]:
    """Return the list under this name in a 200 response."""
    body = response.ok()
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, list):
        raise Broken(f"{response.request} has no list under {name!r}")
    return value


def json_lines(response: Response) -> list[Any]:
    """Return the decoded lines of a 200 response in `application/x-ndjson`."""
    status(response, 200)
    content_type = response.headers.get("content-type", "")
    that(content_type.startswith("application/x-ndjson"), f"the Content-Type is {content_type!r}")
    return [json.loads(line) for line in response.body.splitlines()]


def has_no(names: Collection[str], record: Any, what: str) -> None:
    shown = [name for name in names if name in record]
    that(not shown, f"{what} shows {', '.join(shown)}")
