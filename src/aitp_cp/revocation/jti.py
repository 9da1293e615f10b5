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
    """1 to 1000 different UUIDs; raises `JtiInvalid` and `BodyInvalid`, both naming the place in the list."""
    if not 1 <= len(values) <= MAX_JTIS:
        raise BodyInvalid(f"jtis holds {len(values)} ids; 1 to {MAX_JTIS} are allowed")
    places: dict[UUID, int] = {}
    for index, value in enumerate(values):
        jti = read_uuid(value)
        if jti is None:
            raise JtiInvalid(f"jtis[{index}] is not a UUID", extra={"index": index})
        if jti in places:
            raise BodyInvalid(f"jtis[{index}] is the same token as jtis[{places[jti]}]")
        places[jti] = index
    return list(places)
