"""What checks demand of answers; every refusal says what was asked, what came and what should have."""

import re
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from aitp_cp_conformance.model import Broken
from aitp_cp_conformance.wire import Answer

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def that(condition: object, complaint: str) -> None:
    if not condition:
        raise Broken(complaint)


def equal(got: object, wanted: object, what: str) -> None:
    if got != wanted:
        raise Broken(f"{what} is {got!r}, not {wanted!r}")


def status(answer: Answer, *wanted: int) -> None:
    if answer.status not in wanted:
        raise Broken(f"{answer}, not {' or '.join(map(str, wanted))}")


def error(answer: Answer, wanted: int, code: str) -> dict[str, Any]:
    """The body of an error in the one shape of every error."""
    status(answer, wanted)
    said = answer.json
    that(isinstance(said, dict), f"{answer}; an error is a JSON object")
    that(isinstance(said.get("error"), str) and said["error"].strip(), f"{answer}; `error` is no sentence")
    if said.get("code") != code:
        raise Broken(f"{answer}; its code is not {code}")
    found: dict[str, Any] = said
    return found


def header(answer: Answer, name: str, wanted: str) -> None:
    """The header is there once, with this value."""
    values = answer.headers.getall(name, [])
    if values != [wanted]:
        raise Broken(f"{answer.request} has {name}: {', '.join(values) or 'nothing'}, not {wanted}")


def members(record: Any, names: Iterable[str], what: str) -> None:
    """An object that has at least these members."""
    that(isinstance(record, dict), f"{what} is not an object")
    missing = [name for name in names if name not in record]
    that(not missing, f"{what} lacks {', '.join(missing)}")


def moment(value: object, what: str) -> datetime:
    """ISO-8601 in UTC with `Z` and milliseconds."""
    if not isinstance(value, str) or _MOMENT.fullmatch(value) is None:
        raise Broken(f"{what} is {value!r}: not ISO-8601 UTC with Z and milliseconds")
    return datetime.fromisoformat(value)


def uuid(value: object, what: str) -> str:
    """A UUID in its usual lowercase spelling."""
    if not isinstance(value, str) or _UUID.fullmatch(value) is None:
        raise Broken(f"{what} is {value!r}, not a UUID")
    return value


def rows(answer: Answer, name: str) -> list[Any]:
    """The list under this name in an answer of 200."""
    said = answer.ok()
    found = said.get(name) if isinstance(said, dict) else None
    if not isinstance(found, list):
        raise Broken(f"{answer.request} has no list under {name!r}")
    return found


def has_no(names: Collection[str], record: Any, what: str) -> None:
    shown = [name for name in names if name in record]
    that(not shown, f"{what} shows {', '.join(shown)}")
