"""Addresses of the console's pages: the only maker of `href` and `action`."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from aitp_cp.clock import iso

ROOT = "/console"
_PLACE = re.compile(r"\{(\w+)\}")
# What a browser takes for `.` or `..`, with which an address leaves the console.
_DOTS = re.compile(r"/(\.|%2e){1,2}(/|$)", re.IGNORECASE)


def link(path: str, /, **query: Any) -> str:
    """Return the address of a page: `link("/agents/{aid}", aid=aid, tab="peers")`.

    `path` begins below `/console`. Values whose name stands in braces go into the path, the others into the query; one
    that is None, empty or false is left out.
    """
    if not path.startswith("/") or path.startswith("//"):
        raise ValueError(f"{path[:20]} is not a path of the console")

    def place(match: re.Match[str]) -> str:
        return quote(_written(query.pop(match[1])), safe="", errors="replace") or "-"

    filled = _PLACE.sub(place, path)
    text = urlencode(written(query), errors="replace")
    return f"{ROOT}{filled}?{text}" if text else ROOT + filled


def written(query: Mapping[str, Any]) -> dict[str, str]:
    """Return parameters as an address has them, without those that say nothing."""
    return {name: _written(value) for name, value in query.items() if value not in (None, "", False)}


def own(address: str) -> str:
    """Return the address, path and query, if it is a page of the console; else that of its first page."""
    plain = address.isascii() and address.isprintable() and "\\" not in address and "#" not in address
    ours = address.startswith(f"{ROOT}/") and not _DOTS.search(address.partition("?")[0])
    return address if plain and ours else f"{ROOT}/"


def _written(value: Any) -> str:
    if isinstance(value, datetime):
        return iso(value)
    return "true" if value is True else str(value)
