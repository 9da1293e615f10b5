"""Lists in `jsonb` columns."""

import msgspec


def stored_array(text: str | None) -> msgspec.Raw:
    """Return the JSON array; an empty one for null and other values that older control planes stored."""
    return msgspec.Raw(text.encode() if text is not None and text.startswith("[") else b"[]")
