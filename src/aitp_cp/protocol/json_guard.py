"""Refuse JSON with deep nesting, NUL or lone surrogates (contract, section 2)."""

import json
import re
from collections.abc import Iterable

import msgspec

from aitp_cp.errors import BodyInvalid

MAX_DEPTH = 64
TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels"
NUL = "holds a NUL character"
LONE_SURROGATE = "holds a lone surrogate"
OUT_OF_RANGE = "holds a number that is out of range"

_NUL_ESCAPE = b"\\u0000"
_SURROGATE = re.compile("[\ud800-\udfff]")
_DECODER = msgspec.json.Decoder()


def decode(body: bytes) -> object:
    """Decode a request body; raise `BodyInvalid` with the reason."""
    try:
        value = _DECODER.decode(body)
    except RecursionError as refused:
        raise BodyInvalid(f"the body {TOO_DEEP}") from refused
    except (msgspec.DecodeError, UnicodeDecodeError) as refused:
        raise BodyInvalid(f"the body {_decode_error(body)}") from refused
    if looks_clean(body):
        return value
    fault = fault_in(value)
    if fault is not None:
        raise BodyInvalid(f"the body {fault}")
    return value


def looks_clean(text: bytes) -> bool:
    """Return whether JSON text without lone surrogates has no fault; counts bytes, which is cheaper than a walk."""
    return _NUL_ESCAPE not in text and text.count(b"[") + text.count(b"{") <= MAX_DEPTH


def fault_in(value: object, max_depth: int = MAX_DEPTH) -> str | None:
    """Return why this decoded value cannot be stored, as the rest of a sentence; None if it can."""
    level = [value]
    depth = 0
    while level:
        fault = _fault_in_texts(level)
        if fault is not None:
            return fault
        containers = [node for node in level if isinstance(node, (dict, list))]
        if containers and depth == max_depth:
            return TOO_DEEP
        level = [child for node in containers for child in _children(node)]
        depth += 1
    return None


def refuse_constant(name: str) -> None:
    """Refuse NaN and Infinity, which `json.loads` accepts."""
    raise json.JSONDecodeError("not a JSON value", name, 0)


def _children(node: dict[str, object] | list[object]) -> Iterable[object]:
    return (*node, *node.values()) if isinstance(node, dict) else node


def _fault_in_texts(nodes: list[object]) -> str | None:
    for node in nodes:
        if isinstance(node, str):
            if "\0" in node:
                return NUL
            if not node.isascii() and _SURROGATE.search(node):
                return LONE_SURROGATE
    return None


def _decode_error(body: bytes) -> str:
    """Return why msgspec refused the body; the standard library accepts well-formed values out of range."""
    try:
        value = json.loads(body.decode(), parse_constant=refuse_constant)
    except RecursionError:
        return TOO_DEEP
    except UnicodeDecodeError:
        return "is not UTF-8"
    except json.JSONDecodeError:
        return "is not JSON"
    except ValueError:
        return OUT_OF_RANGE
    return fault_in(value) or OUT_OF_RANGE
