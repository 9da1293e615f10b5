"""Reading a batch in which one bad item makes a strict decoder refuse the whole document."""

import re
from typing import NamedTuple

import msgspec

from aitp_cp.protocol import json_numbers

# A quote that opens no complete string matches alone and ends the scan: searching on from it would be quadratic.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{},]', re.DOTALL)
_ARRAY = re.compile(rb"[ \t\r\n]*\[")
_MEMBER_ARRAY = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*\[")
_OPENING = (b"[", b"{")
_CLOSING = (b"]", b"}")
_STRAY_QUOTE = b'"'


class Item(NamedTuple):
    """One array item as it was written, and how deep its brackets nest."""

    text: bytes
    depth: int


def split_items(body: bytes) -> list[Item] | None:
    """The items of a top-level array, or of the `events` array of a top-level object.

    None when the document around the items is not such JSON; the items themselves are not read. Never recurses.
    """
    start = _array_start(body)
    found = None if start is None else _items_from(body, start)
    if start is None or found is None:
        return None
    items, end = found
    return items if _is_frame(body[:start] + body[end:]) else None


def decode_item(text: bytes) -> object:
    """Return a JSON value with lone surrogates kept, and floats and endless integers as `msgspec.Raw`.

    Raises `ValueError` when it is not JSON; `text` must not nest deeper than `json_guard.MAX_DEPTH`.
    """
    try:
        return json_numbers.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return json_numbers.decode_loosely(text)


def _array_start(body: bytes) -> int | None:
    """The offset behind the array's opening bracket."""
    array = _ARRAY.match(body)
    if array is not None:
        return array.end()
    depth = 0
    for token in _TOKEN.finditer(body):
        text = token[0]
        if text == _STRAY_QUOTE:
            return None
        depth += (text in _OPENING) - (text in _CLOSING)
        if depth == 1 and text == b'"events"':
            member = _MEMBER_ARRAY.match(body, token.end())
            if member is not None:
                return member.end()
    return None


def _items_from(body: bytes, start: int) -> tuple[list[Item], int] | None:
    """The items, and the offset of the bracket that closes their array."""
    items: list[Item] = []
    depth = deepest = 0
    for token in _TOKEN.finditer(body, start):
        text = token[0]
        if text in _OPENING:
            depth += 1
            deepest = max(deepest, depth)
        elif text in _CLOSING:
            depth -= 1
        elif text == _STRAY_QUOTE:
            return None
        if depth < 0 or (depth == 0 and text == b","):
            items.append(Item(body[start : token.start()], deepest))
            start, deepest = token.end(), 0
        if depth < 0:
            return _without_sole_blank(items), token.start()
    return None


def _without_sole_blank(items: list[Item]) -> list[Item]:
    return [] if len(items) == 1 and not items[0].text.strip(b" \t\r\n") else items


def _is_frame(text: bytes) -> bool:
    """Whether the document is JSON once its items are taken out."""
    try:
        frame = json_numbers.decode_loosely(text)
    except (ValueError, RecursionError):
        return False
    return frame == [] or (isinstance(frame, dict) and frame.get("events") == [])
