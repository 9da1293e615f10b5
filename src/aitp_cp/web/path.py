"""Ids in a path."""

from uuid import UUID

from starlette.requests import Request

from aitp_cp.errors import IdInvalid
from aitp_cp.protocol.uuids import read_uuid
from aitp_cp_client.wire.aid import spelled


def path_uuid(request: Request, name: str = "id") -> UUID:
    """Return the id of that name, in any spelling of a UUID; raises `IdInvalid` (contract, section 2)."""
    id = read_uuid(request.path_params[name])
    if id is None:
        raise IdInvalid
    return id


def path_aid(request: Request) -> str:
    """Return an AID in its canonical spelling; whatever else was given, as it came."""
    return spelled(request.path_params["aid"])
