"""Reading a batch that msgspec refuses although only single items are at fault."""

import re
from typing import Any

from aitp_cp.protocol import json_guard, json_numbers

# Well above what an item may nest, and well below where the standard library gives up.
_CUT_DEPTH = json_guard.MAX_DEPTH + 16
# A quote that opens no complete string matches alone and ends the scan: searching on from it would be quadratic.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{}]', re.DOTALL)


def decode(body: bytes) -> Any:
    """Return the JSON value, with lone surrogates kept, and floats and endless integers as `json_numbers.Written`.

    What nests too deeply to be decoded is cut, but is still deeper than `json_guard.MAX_DEPTH`. Raises `ValueError`
    when the body is not JSON, or nests too deeply outside its events.
    """
    try:
        return json_numbers.decode_loosely(body)
    except RecursionError:
        document = json_numbers.decode_loosely(_cut(body))
    if isinstance(document, dict) and json_guard.fault_in(document | {"events": None}) == json_guard.TOO_DEEP:
        raise ValueError(json_guard.TOO_DEEP)
    return document


def _cut(body: bytes) -> bytes:
    """Return the text with each container at `_CUT_DEPTH` emptied."""
    kept, start, depth = bytearray(), 0, 0
    for token in _TOKEN.finditer(body):
        bracket = token[0]
        if bracket == b'"':
            break
        if bracket in (b"[", b"{"):
            depth += 1
            if depth == _CUT_DEPTH:
                kept += body[start : token.end()]
                start = len(body)  # until it is closed
        elif bracket in (b"]", b"}"):
            if depth == _CUT_DEPTH:
                start = token.start()
            depth -= 1
    return bytes(kept + body[start:])
