"""Lists: in `jsonb` columns, and as parameters of a statement."""

from collections.abc import Collection
from typing import Any

import msgspec


def stored_array(text: str | None) -> msgspec.Raw:
    """Return the JSON array; an empty one for null and other values that older control planes stored."""
    return msgspec.Raw(text.encode() if text is not None and text.startswith("[") else b"[]")


def columns(rows: Collection[Any], *names: str) -> list[list[Any]]:
    """Return the attributes of these names, a list of each, as `unnest` takes them."""
    return [[getattr(row, name) for row in rows] for name in names]
