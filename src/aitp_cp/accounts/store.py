"""Statements on console_sessions."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from aitp_cp.accounts.model import ORDER, ConsoleSession, Which
from aitp_cp.db import Connection, Where
from aitp_cp.db.keyset import Page, Window
from aitp_cp.db.sweep import OldRows
from aitp_cp.db.views import View

SESSION = View(ConsoleSession, convert={"scopes": lambda text: tuple(msgspec.json.decode(text))})
_VALUES = ", ".join(f"${n}" for n in range(1, len(ConsoleSession.__struct_fields__) + 1))

FIND = f"SELECT {SESSION.sql} FROM console_sessions WHERE digest = $1 AND ended_at IS NULL"
FIND_ALL = f"SELECT {SESSION.sql} FROM console_sessions WHERE id = ANY($1::uuid[]) AND ended_at IS NULL"
INSERT = f"INSERT INTO console_sessions ({SESSION.sql}) VALUES ({_VALUES})"
TOUCH = "UPDATE console_sessions SET seen_at = $2 WHERE id = $1 AND seen_at < $2"

# Only from the token that was seen: of two renewals at once, one finds no row.
RENEW = f"""
UPDATE console_sessions
SET digest = $3, scopes = $4::jsonb, display = $5, idp_sid = $6, seen_at = $7, auth_at = $7, expires_at = $8
WHERE id = $1 AND digest = $2 AND ended_at IS NULL
RETURNING {SESSION.sql}
"""

END = f"""
UPDATE console_sessions SET ended_at = {{at}}, ended_by = {{by}}
WHERE ended_at IS NULL AND {{where}}
RETURNING {SESSION.sql}
"""

PAGE = f"""
SELECT {SESSION.sql} FROM console_sessions WHERE ended_at IS NULL AND {{where}} ORDER BY {ORDER.sql}
LIMIT {{limit}} OFFSET {{offset}}
"""

COUNT = """
SELECT count(*)::int FROM (
    SELECT 1 FROM console_sessions WHERE ended_at IS NULL AND expires_at > $1 AND seen_at > $2 LIMIT $3
) AS live
"""

BY_ENVIRONMENT = "SELECT count(*)::int FROM console_sessions WHERE method = 'key' AND key_family IS NULL"

# Nothing of a session counts after its absolute end.
OLD = OldRows("console_sessions", "expires_at")


async def find(conn: Connection, digest: bytes) -> ConsoleSession | None:
    """Return the session that was not ended and has this token, whatever its times say."""
    return SESSION.find(await conn.fetchrow(FIND, digest))


async def find_all(conn: Connection, ids: Sequence[UUID]) -> list[ConsoleSession]:
    return [SESSION.read(row) for row in await conn.fetch(FIND_ALL, ids)]


async def insert(conn: Connection, session: ConsoleSession) -> None:
    values = {**msgspec.structs.asdict(session), "scopes": _json(session.scopes)}
    await conn.execute(INSERT, *values.values())


async def touch(conn: Connection, id: UUID, now: datetime) -> None:
    await conn.execute(TOUCH, id, now)


async def renew(conn: Connection, known: bytes, session: ConsoleSession) -> ConsoleSession | None:
    """Give a session that has the digest `known` another token, and what a new proof of its person says."""
    times = (session.auth_at, session.expires_at)
    row = await conn.fetchrow(
        RENEW, session.id, known, session.digest, _json(session.scopes), session.display, session.idp_sid, *times
    )
    return SESSION.find(row)


async def end(conn: Connection, now: datetime, by: str, which: Which) -> list[ConsoleSession]:
    """End sessions, and return those that this has ended."""
    where = Where()
    at, who = where.bind(now), where.bind(by)
    where.add("id = {}", which.id)
    where.add("subject = {}", which.subject)
    where.add("id <> {}", which.besides)
    where.add("idp_sid = {}", which.idp_sid)
    return [SESSION.read(row) for row in await conn.fetch(END.format(at=at, by=who, where=where.sql()), *where.args)]


async def page(
    conn: Connection, window: Window, now: datetime, seen_after: datetime, subject: str | None = None
) -> tuple[list[ConsoleSession], Page]:
    """Return live sessions, of one subject or of all, the newest first."""
    where = Where()
    where.add("subject = {}", subject)
    where.add("expires_at > {}", now)
    where.add("seen_at > {}", seen_after)
    page = await ORDER.fetch(conn, PAGE, where, window)
    return [SESSION.read(row) for row in page.rows], page


async def count_live(conn: Connection, now: datetime, seen_after: datetime, limit: int) -> int:
    """Return how many sessions are live, up to `limit`."""
    return int(await conn.fetchval(COUNT, now, seen_after, limit))


async def count_by_environment(conn: Connection) -> int:
    """Return how many sessions that are still kept began with a key of the environment."""
    return int(await conn.fetchval(BY_ENVIRONMENT))


def _json(scopes: Sequence[str]) -> str:
    return msgspec.json.encode(scopes).decode()
