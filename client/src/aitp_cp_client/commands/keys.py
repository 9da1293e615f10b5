"""aitp-cp keys: what its commands do, wherever the keys are."""

from datetime import timedelta
from functools import partial
from typing import Protocol
from uuid import UUID

from aitp_cp_client import ApiKey, ControlPlane, CreatedKey, RevokedKeys, Rows
from aitp_cp_client.commands import connection, exits
from aitp_cp_client.commands.key_options import KeyOptions, Run, Work
from aitp_cp_client.commands.output import Columns, document, fields, line, listing, note, some, stop
from aitp_cp_client.wire.times import iso

COLUMNS: Columns[ApiKey] = {
    "id": lambda key: key.id,
    "name": lambda key: key.name,
    "key": lambda key: f"{key.shown}…",
    "state": lambda key: key.state,
    "scopes": lambda key: key.scopes,
    "expires": lambda key: key.expires_at,
    "last used": lambda key: key.last_used_at,
    "family": lambda key: key.family,
}


class KeyAccess(Protocol):
    """Where the keys are. Every call raises `ControlPlaneError`."""

    async def page(
        self, state: str = ..., limit: int = ..., offset: int = ..., before: str | None = ...
    ) -> Rows[ApiKey]: ...

    async def create(self, options: KeyOptions) -> CreatedKey: ...

    async def rotate(self, id: UUID, overlap: timedelta | None) -> CreatedKey: ...

    async def revoke(self, id: UUID, reason: str | None, *, family: bool) -> RevokedKeys: ...


class HttpKeys:
    """Keys at a server."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._keys = control_plane.keys
        self.page = self._keys.page
        self.rotate = self._keys.rotate
        self.revoke = self._keys.revoke

    async def create(self, options: KeyOptions) -> CreatedKey:
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


def create(run: Run, options: KeyOptions) -> None:
    if (options.role is None) == (not options.scope):
        stop("say what the key may do: either --role or --scope, not both", exits.USAGE)

    async def work(keys: KeyAccess) -> None:
        _show(await keys.create(options), as_json=options.as_json)

    run(work)


def list_keys(run: Run, state: str, limit: int, *, as_json: bool) -> None:
    async def work(keys: KeyAccess) -> None:
        listing("keys", await some(partial(keys.page, state), limit), COLUMNS, as_json=as_json)

    run(work)


def rotate(run: Run, id: UUID, overlap: timedelta | None, *, as_json: bool) -> None:
    async def work(keys: KeyAccess) -> None:
        created = await keys.rotate(id, overlap)
        kept = "a day" if overlap is None else f"{overlap.total_seconds():.0f} s"
        note(f"the old key {id} ends after {kept} at the latest")
        _show(created, as_json=as_json)

    run(work)


def revoke(run: Run, id: UUID, reason: str | None, *, family: bool, as_json: bool) -> None:
    async def work(keys: KeyAccess) -> None:
        revoked = await keys.revoke(id, reason, family=family)
        if as_json:
            document(revoked)
            return
        for key in revoked.keys:
            line(f"revoked {key}")
        if not revoked.keys:
            line(f"revoked before {id}")

    run(work)


def who_am_i(*, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
        me = await control_plane.whoami()
        if as_json:
            document(me)
            return
        shown = {
            "actor": me.actor,
            "name": me.actor_name,
            "kind": me.kind,
            "scopes": me.scopes,
            "expires": me.expires_at,
        }
        fields(shown)

    connection.run(work)


def _show(created: CreatedKey, *, as_json: bool) -> None:
    """Print the notices first: they name the key that would have to be revoked if the rest is lost."""
    ends = "does not expire" if created.expires_at is None else f"expires at {iso(created.expires_at)}"
    note(f"{created.name}: key {created.id}, {', '.join(created.scopes)}, {ends}")
    note("store it now, it is not shown again; clients send it as `Authorization: Bearer KEY`")
    note(f"these commands read it from the file that {connection.KEY}_FILE names")
    if as_json:
        document(created)
    else:
        line(created.key)
