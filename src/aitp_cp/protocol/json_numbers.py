"""Numbers of reported items, as they were written and as values (docs/decisions, event ids)."""

import json
from typing import Any, Self

import msgspec

from aitp_cp.protocol.json_guard import refuse_constant

MAX_INTEGER_DIGITS = 4300  # what Python and msgspec read as an integer


class Written(float):
    """A number and its source text: a float, or an integer of more than 4,300 digits. Infinite beyond a double."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        self = super().__new__(cls, text)
        self.text = text
        return self


_DECODER = msgspec.json.Decoder(float_hook=Written)
_WRITTEN = msgspec.json.Encoder(order="sorted", enc_hook=lambda number: msgspec.Raw(number.text))
_VALUES = msgspec.json.Encoder(enc_hook=float)


def decode(text: bytes) -> Any:
    """Return the JSON value of `text` with `Written` numbers.

    Raises what msgspec raises, also for an integer of more than 4,300 digits.
    """
    return _DECODER.decode(text)


def decode_loosely(text: bytes) -> Any:
    """Like `decode`, but keep lone surrogates and integers of any length.

    Slower. Raises `ValueError` when `text` is not JSON; `text` must not nest deeper than `json_guard.MAX_DEPTH`.
    """
    document = text.decode()
    try:
        return json.loads(document, parse_float=Written, parse_constant=refuse_constant)
    except json.JSONDecodeError:
        raise
    except ValueError:  # an integer is longer than the interpreter allows
        return json.loads(document, parse_float=Written, parse_int=_integer, parse_constant=refuse_constant)


def encode_written(value: Any) -> bytes:
    """Return compact JSON with sorted members and every number as it was written (but for `-0`, which is 0)."""
    return _WRITTEN.encode(value)


def encode(value: Any) -> bytes:
    """Return compact JSON with numbers as values; null for one that is beyond a double or 4,300 digits."""
    return _VALUES.encode(value)


def _integer(literal: str) -> object:
    return int(literal) if len(literal) <= MAX_INTEGER_DIGITS else Written(literal)
