"""UUIDs in whatever spelling a client has them."""

import re
from uuid import UUID

VERSION_4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"  # in its canonical spelling
_DIGITS = r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_SPELLINGS = re.compile(rf"(?:urn:uuid:)?({_DIGITS})|\{{({_DIGITS})\}}", re.IGNORECASE | re.ASCII)


def read_uuid(value: object) -> UUID | None:
    """Return a UUID of any version in any RFC 9562 spelling, or None; the standard library accepts far more."""
    spelling = _SPELLINGS.fullmatch(value) if isinstance(value, str) else None
    return None if spelling is None else UUID(hex=spelling[1] or spelling[2])
