"""Addresses as they were sent, and the ids in a path."""

from urllib.parse import quote
from uuid import UUID

from starlette.requests import Request
from starlette.types import Scope

from aitp_cp.errors import IdInvalid
from aitp_cp.protocol.uuids import read_uuid
from aitp_cp_client.wire.aid import spelled


def sent_address(scope: Scope) -> str:
    """Return path and query as they were sent."""
    query = scope["query_string"].decode("latin-1")
    return sent_path(scope) + (f"?{query}" if query else "")


def sent_path(scope: Scope) -> str:
    """Return the path as it was sent.

    An id may hold a slash, which its sender has escaped; and a fixed path in another spelling (`/api%2fmetrics`) would
    pass a proxy that denies the plain one.
    """
    raw: bytes | None = scope.get("raw_path")
    return quote(scope["path"]) if raw is None else raw.decode("latin-1")


def path_uuid(request: Request, name: str = "id") -> UUID:
    """Return the id of that name, in any spelling of a UUID; raises `IdInvalid` (contract, section 2)."""
    id = read_uuid(request.path_params[name])
    if id is None:
        raise IdInvalid
    return id


def path_aid(request: Request) -> str:
    """Return an AID in its canonical spelling; whatever else was given, as it came."""
    return spelled(request.path_params["aid"])
