"""Numbers of reported items, as they were written and as values (docs/decisions, event ids)."""

import json
from collections.abc import Callable
from typing import Any

import msgspec

from aitp_cp.protocol.json_guard import refuse_constant

MAX_INTEGER_DIGITS = 4300  # what Python and msgspec read as an integer

_WRITTEN = msgspec.json.Decoder(float_hook=msgspec.Raw)
_VALUES = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()


def decode(text: bytes) -> Any:
    """Return the JSON value of `text` with each float as a `msgspec.Raw` of the source text.

    Encoded again, every number looks as it did in `text` (but for `-0`, which is 0). Raises what msgspec raises for
    an integer of more than 4,300 digits.
    """
    return _WRITTEN.decode(text)


def decode_loosely(text: bytes) -> Any:
    """Like `decode`, but keep lone surrogates, and integers of any length, too, as source text.

    Slower. Raises `ValueError` when `text` is not JSON; `text` must not nest deeper than `json_guard.MAX_DEPTH`.
    """
    return _loads(text, msgspec.Raw, msgspec.Raw)


def values(text: bytes) -> Any:
    """Return the value of valid JSON text; a number beyond the range of a double or of 4,300 digits is None."""
    try:
        return _VALUES.decode(text)
    except msgspec.DecodeError:
        # The encoder writes an infinite float as null.
        return _VALUES.decode(_ENCODER.encode(_loads(text, float, _nothing)))


def _loads(text: bytes, real: Callable[[str], object], long_integer: Callable[[str], object]) -> Any:
    def integer(literal: str) -> object:
        return int(literal) if len(literal) <= MAX_INTEGER_DIGITS else long_integer(literal)

    document = text.decode()
    try:
        return json.loads(document, parse_float=real, parse_constant=refuse_constant)
    except json.JSONDecodeError:
        raise
    except ValueError:  # an integer is longer than the interpreter allows
        return json.loads(document, parse_float=real, parse_int=integer, parse_constant=refuse_constant)


def _nothing(_: str) -> None:
    return None
