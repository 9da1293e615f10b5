"""Token ids as clients spell them."""

from uuid import UUID

from aitp_cp.errors import JtiInvalid
from aitp_cp.protocol.uuids import read_uuid


def read_jti(value: object) -> UUID:
    """A UUID of any version and spelling; raises `JtiInvalid`."""
    jti = read_uuid(value)
    if jti is None:
        raise JtiInvalid
    return jti
