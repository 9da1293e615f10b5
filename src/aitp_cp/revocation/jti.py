"""Token ids as clients spell them."""

from collections.abc import Sequence
from uuid import UUID

from aitp_cp.errors import BodyInvalid, JtiInvalid
from aitp_cp.protocol.uuids import read_uuid
from aitp_cp.revocation.model import MAX_JTIS


def read_jti(value: object) -> UUID:
    """Return a UUID of any version and spelling; raises `JtiInvalid`."""
    jti = read_uuid(value)
    if jti is None:
        raise JtiInvalid
    return jti


def read_jtis(values: Sequence[object]) -> list[UUID]:
    """Return 1 to 1000 UUIDs; raises `BodyInvalid`, and `JtiInvalid` with the place in the list."""
    if not 1 <= len(values) <= MAX_JTIS:
        raise BodyInvalid(f"jtis holds {len(values)} ids; 1 to {MAX_JTIS} are allowed")
    jtis: list[UUID] = []
    for index, value in enumerate(values):
        jti = read_uuid(value)
        if jti is None:
            raise JtiInvalid(f"jtis[{index}] is not a UUID", extra={"index": index})
        jtis.append(jti)
    return jtis
