"""aitp-cp keys on DATABASE_URL: the way to the first key, for it needs none."""

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

import msgspec

from aitp_cp.audit.model import Actor
from aitp_cp.cli import running
from aitp_cp.cli.database import failures_explained, opened
from aitp_cp.cli.exits import settings_or_stop
from aitp_cp.clock import iso_or_none, now
from aitp_cp.db import Connection, Database
from aitp_cp.db.migrations import classify
from aitp_cp.db.schema import current_revision
from aitp_cp.errors import AppError, BodyInvalid, DatabaseUnavailable
from aitp_cp.keys import service
from aitp_cp.keys.model import ORDER, Grantor, KeyQuery, NewKey, Rotation
from aitp_cp.settings import Settings
from aitp_cp_client import ApiKey, ControlPlaneError, CreatedKey, RevokedKeys, Rows
from aitp_cp_client.commands.connection import refusals_explained
from aitp_cp_client.commands.exits import REFUSED, UNAVAILABLE
from aitp_cp_client.commands.keys import KeyOptions, Work, over_http
from aitp_cp_client.commands.output import stop

CLI = Actor("cli", None)  # in audit rows; whoever has the database's password needs no key

T = TypeVar("T")


def run(work: Work) -> None:
    """Do the work in the database that the environment names or, without one, at a server."""
    if not any(os.environ.get(name, "").strip() for name in ("DATABASE_URL", "DATABASE_URL_FILE")):
        over_http(work)
        return
    settings = settings_or_stop("tool")
    with refusals_explained(), failures_explained(OSError, code=UNAVAILABLE):
        running.run(lambda ending: _run(settings, work))


async def _run(settings: Settings, work: Work) -> None:
    async with opened(settings) as db:
        await _require_head(db)
        await work(DatabaseKeys(db))


async def _require_head(db: Database) -> None:
    async with db.connection() as conn:
        state = classify(await current_revision(conn))
    if state == "behind":
        stop("the database schema is behind: run `aitp-cp migrate`", REFUSED)
    if state == "ahead":
        stop("the database schema is newer than this version: use the version that migrated it", REFUSED)


class DatabaseKeys:
    """Keys in a database, with the same rules, audit rows and events as over HTTP."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def page(
        self, state: str = "active", limit: int = 100, offset: int = 0, before: str | None = None
    ) -> Rows[ApiKey]:
        with _told():
            query = msgspec.convert({"state": state, "limit": limit, "offset": offset, "before": before}, KeyQuery)
            async with self._db.connection() as conn:
                page = await service.list_keys(conn, query.state, query.window(ORDER), now())
        return Rows(_as(page.keys, list[ApiKey]), page.next_before or None)

    async def create(self, options: KeyOptions) -> CreatedKey:
        members = {
            "name": options.name,
            "role": options.role,
            "scopes": options.scope or None,
            "expiresAt": iso_or_none(options.expires),
            "ratePerMin": options.rate,
        }
        async with self._changing() as conn:
            created = await service.create(conn, _read(members, NewKey), Grantor(actor=CLI), now(), adopt=options.adopt)
        return _as(created, CreatedKey)

    async def rotate(self, id: UUID, overlap: timedelta | None) -> CreatedKey:
        members = {} if overlap is None else {"overlapSecs": round(overlap.total_seconds())}
        async with self._changing() as conn:
            secs = _read(members, Rotation).overlap_secs
            created = await service.rotate(conn, id, secs, Grantor(actor=CLI), now())
        return _as(created, CreatedKey)

    async def revoke(self, id: UUID, reason: str | None, *, family: bool) -> RevokedKeys:
        async with self._changing() as conn:
            revoked = await service.revoke(conn, id, reason, CLI, now(), family=family)
        return _as(revoked, RevokedKeys)

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[Connection]:
        with _told():
            async with self._db.transaction() as conn:
                yield conn


@contextmanager
def _told() -> Iterator[None]:
    """Raise what the service refuses as a client of the API gets it."""
    try:
        yield
    except DatabaseUnavailable:
        raise
    except AppError as refused:
        raise ControlPlaneError(refused.code, refused.message, status=refused.status, extra=refused.extra) from None


def _read(members: Mapping[str, object], shape: type[T]) -> T:
    """Read what a body would hold; raises `BodyInvalid`."""
    try:
        return msgspec.convert(members, shape)
    except msgspec.ValidationError as wrong:
        raise BodyInvalid(str(wrong)) from None


def _as(record: object, shape: type[T]) -> T:
    return msgspec.convert(msgspec.to_builtins(record), shape)
