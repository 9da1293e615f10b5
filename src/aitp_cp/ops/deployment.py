"""The settings that this process runs with, as they may be shown: never a secret."""

import re
from typing import Any

import msgspec

from aitp_cp.settings import Settings

SET, UNSET = "set, not shown", "not set"
_USER_OF_URL = re.compile(r"//[^/@\s]+@")


class Shown(msgspec.Struct, frozen=True):
    """One variable; of a `secret` one the value says only whether it is set."""

    name: str
    value: str
    meaning: str
    secret: bool
    default: bool


def shown_settings(settings: Settings) -> list[Shown]:
    """Return every variable with its value, in the order in which they are documented."""
    return [
        Shown(
            name=name.upper(),
            value=_written(value := getattr(settings, name)),
            meaning=field.description or "",
            secret=_is_secret(value),
            default=value == field.default,
        )
        for name, field in type(settings).model_fields.items()
    ]


def _is_secret(value: Any) -> bool:
    values = value if isinstance(value, tuple) else (value,)
    return any(hasattr(member, "get_secret_value") for member in values)


def _written(value: Any) -> str:
    if _is_secret(value):
        return f"{len(value)} {SET}" if isinstance(value, tuple) else SET
    if value is None or value in ((), {}):
        return UNSET
    if isinstance(value, bool):
        return str(value).lower()
    text = ", ".join(map(str, value)) if isinstance(value, tuple | list | set | frozenset) else str(value)
    return _USER_OF_URL.sub("//…@", text)
