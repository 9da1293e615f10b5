"""Lists kept as `jsonb`."""

import msgspec


def stored_array(text: str | None) -> msgspec.Raw:
    """The column's JSON; an empty array for JSON's own null and whatever else an older control plane may have left."""
    return msgspec.Raw(text.encode() if text is not None and text.startswith("[") else b"[]")
