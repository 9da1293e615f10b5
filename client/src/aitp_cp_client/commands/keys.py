"""aitp-cp keys, for keys at a server or, with the server's distribution, in its database; and aitp-cp whoami."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, Protocol
from uuid import UUID

import typer

from aitp_cp_client.commands import connection, exits
from aitp_cp_client.commands.exits import LEGEND
from aitp_cp_client.commands.output import Columns, document, iso, line, listing, note, record, some, stop
from aitp_cp_client.commands.parameters import (
    Json,
    Limit,
    Run,
    as_options,
    group,
    read_duration,
    read_expiry,
    with_opened,
)

if TYPE_CHECKING:
    from aitp_cp_client import ApiKey, ControlPlane, CreatedKey, RevokedKeys, Rows, WhoAmI

COLUMNS: "Columns[ApiKey]" = {
    "id": lambda key: key.id,
    "name": lambda key: key.name,
    "key": lambda key: f"{key.shown}…",
    "state": lambda key: key.state,
    "scopes": lambda key: key.scopes,
    "expires": lambda key: key.expires_at,
    "last used": lambda key: key.last_used_at,
    "family": lambda key: key.family,
}
CALLER: "Columns[WhoAmI]" = {
    "actor": lambda caller: caller.actor,
    "name": lambda caller: caller.actor_name,
    "kind": lambda caller: caller.kind,
    "scopes": lambda caller: caller.scopes,
    "expires": lambda caller: caller.expires_at,
}


def read_actor(text: str) -> str:
    """Read the actor of an environment key, as the audit shows it; raises `ValueError`, which the option shows."""
    if not re.fullmatch(r"apikey:[0-9a-f]{16}", text):
        raise ValueError(f"{text!r} is not apikey: and 16 hex digits, as the audit shows an environment key")
    return text


KeyId = Annotated[UUID, typer.Argument(metavar="KEY", help="The key's id.")]


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """Options of `keys create`."""

    name: Annotated[str, typer.Argument(metavar="NAME", help="Who or what will use it; the audit shows the name.")]
    role: Annotated[
        Literal["admin", "operator", "auditor", "reporter"] | None, typer.Option(help="Scopes under one name.")
    ] = None
    scope: Annotated[list[str] | None, typer.Option(metavar="SCOPE", help="One scope; may be repeated.")] = None
    expires: Annotated[
        datetime | None,
        typer.Option(metavar="TIME", parser=read_expiry, help="After 90d, 12h, 30m or 5s, or an ISO-8601 time."),
    ] = None
    rate: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Requests a minute, in place of the server's limit.")
    ] = None
    adopt: Annotated[
        str | None,
        typer.Option(
            metavar="ACTOR",
            parser=read_actor,
            help="Act as apikey:<16 hex>, the environment key that this one replaces; needs DATABASE_URL.",
        ),
    ] = None
    as_json: Json = False


class KeyAccess(Protocol):
    """Where the keys are. Every call raises `ControlPlaneError`."""

    async def page(
        self, state: str = ..., limit: int = ..., offset: int = ..., before: str | None = ...
    ) -> "Rows[ApiKey]": ...

    async def create(self, options: KeyOptions) -> "CreatedKey": ...

    async def rotate(self, id: UUID, overlap: timedelta | None) -> "CreatedKey": ...

    async def revoke(self, id: UUID, reason: str | None, *, family: bool) -> "RevokedKeys": ...


Work = Callable[[KeyAccess], Awaitable[None]]


class HttpKeys:
    """Keys at a server."""

    def __init__(self, control_plane: "ControlPlane") -> None:
        self._keys = control_plane.keys
        self.page = self._keys.page
        self.rotate = self._keys.rotate
        self.revoke = self._keys.revoke

    async def create(self, options: KeyOptions) -> "CreatedKey":
        if options.adopt is not None:
            stop("--adopt is only for keys that are created with DATABASE_URL", exits.USAGE)
        return await self._keys.create(
            options.name,
            role=options.role,
            scopes=options.scope or None,
            expires_at=options.expires,
            rate_per_min=options.rate,
        )


def over_http(work: Work) -> None:
    connection.run(lambda control_plane: work(HttpKeys(control_plane)))


def keys_group(run: Run[KeyAccess]) -> typer.Typer:
    """Return the commands; `run` opens where the keys are and does the work there."""
    keys = group("Keys of the API: who may call, and what.")
    for name, command in (("create", create), ("list", list_keys), ("rotate", rotate), ("revoke", revoke)):
        keys.command(name, epilog=LEGEND)(with_opened(run)(command))
    return keys


@as_options(KeyOptions)
async def create(keys: KeyAccess, options: KeyOptions) -> None:
    """Create a key with a role or with scopes; standard output gets the key, this once."""
    if (options.role is None) == (not options.scope):
        stop("say what the key may do: either --role or --scope, not both", exits.USAGE)
    _show(await keys.create(options), as_json=options.as_json)


async def list_keys(
    keys: KeyAccess,
    state: Annotated[
        Literal["active", "expired", "revoked", "all"], typer.Option(help="Only keys in this state.")
    ] = "active",
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Keys, newest first, without their secrets."""
    listing("keys", await some(partial(keys.page, state), limit), COLUMNS, as_json=as_json)


async def rotate(
    keys: KeyAccess,
    key: KeyId,
    overlap: Annotated[
        timedelta | None,
        typer.Option(metavar="DURATION", parser=read_duration, help="How long the old key stays valid; 1d by default."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Replace a key by a new one with the same rights; standard output gets the key, this once."""
    created = await keys.rotate(key, overlap)
    kept = "a day" if overlap is None else f"{overlap.total_seconds():.0f} s"
    note(f"the old key {key} ends after {kept} at the latest")
    _show(created, as_json=as_json)


async def revoke(
    keys: KeyAccess,
    key: KeyId,
    family: Annotated[bool, typer.Option("--family", help="Also all keys that rotations have made of it.")] = False,
    reason: Annotated[str | None, typer.Option(help="Kept with the key and in the audit.")] = None,
    as_json: Json = False,
) -> None:
    """Revoke a key at once; there is no way back."""
    revoked = await keys.revoke(key, reason, family=family)
    if as_json:
        document(revoked)
        return
    for id in revoked.keys:
        line(f"revoked {id}")
    if not revoked.keys:
        line(f"revoked before {key}")


@connection.at_server
async def whoami(control_plane: "ControlPlane", as_json: Json = False) -> None:
    """Who the key belongs to, and what it may do."""
    record(await control_plane.whoami(), CALLER, as_json=as_json)


def _show(created: "CreatedKey", *, as_json: bool) -> None:
    """Print the notices first: they name the key that would have to be revoked if the rest is lost."""
    ends = "does not expire" if created.expires_at is None else f"expires at {iso(created.expires_at)}"
    note(f"{created.name}: key {created.id}, {', '.join(created.scopes)}, {ends}")
    note("store it now, it is not shown again; clients send it as `Authorization: Bearer KEY`")
    note(f"these commands read it from the file that {connection.KEY}_FILE names")
    if as_json:
        document(created)
    else:
        line(created.key)
