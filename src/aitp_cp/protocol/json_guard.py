"""What no JSON from outside may hold: absurd nesting, NUL, lone surrogates (contract, section 2)."""

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
    """The JSON value of a request body; raises `BodyInvalid` saying what is wrong with it."""
    try:
        value = _DECODER.decode(body)
    except RecursionError as refused:
        raise BodyInvalid(f"the body {TOO_DEEP}") from refused
    except (msgspec.DecodeError, UnicodeDecodeError) as refused:
        raise BodyInvalid(f"the body {_complaint(body)}") from refused
    if looks_clean(body):
        return value
    found = fault_in(value)
    if found is not None:
        raise BodyInvalid(f"the body {found}")
    return value


def looks_clean(text: bytes) -> bool:
    """Whether JSON text without lone surrogates cannot hold a fault: counting bytes is cheaper than a walk."""
    return _NUL_ESCAPE not in text and text.count(b"[") + text.count(b"{") <= MAX_DEPTH


def fault_in(value: object, max_depth: int = MAX_DEPTH) -> str | None:
    """The first reason, as the rest of a sentence, for which this decoded value cannot be stored."""
    level = [value]
    depth = 0
    while level:
        found = _fault_in_texts(level)
        if found is not None:
            return found
        containers = [node for node in level if isinstance(node, (dict, list))]
        if containers and depth == max_depth:
            return TOO_DEEP
        level = [child for node in containers for child in _children(node)]
        depth += 1
    return None


def refuse_constant(name: str) -> None:
    """For `json.loads`, which would take NaN and Infinity for numbers."""
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


def _complaint(body: bytes) -> str:
    """Why msgspec refused: the standard library reads what is well-formed yet unfit."""
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
