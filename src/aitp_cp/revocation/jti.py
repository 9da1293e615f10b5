"""Token ids in whatever spelling a client has them."""

import re
from uuid import UUID

from aitp_cp.errors import JtiInvalid

_DIGITS = r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_SPELLINGS = re.compile(rf"(?:urn:uuid:)?(?P<bare>{_DIGITS})|\{{(?P<braced>{_DIGITS})\}}", re.IGNORECASE | re.ASCII)


def read_jti(value: object) -> UUID:
    """A UUID of any version in any RFC 9562 spelling; raises `JtiInvalid`."""
    found = _SPELLINGS.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise JtiInvalid
    return UUID(hex=found["bare"] or found["braced"])
