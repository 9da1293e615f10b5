"""Statements on agent_notes."""

from collections.abc import Collection
from datetime import datetime

import msgspec

from aitp_cp.db import Connection, Where
from aitp_cp.db.arrays import stored_array
from aitp_cp.db.keyset import Window
from aitp_cp.db.pages import json_size
from aitp_cp.db.views import View
from aitp_cp.notes.model import ORDER, NewNotes, Notes, NotesList, NotesQuery

NOTES = View(Notes, convert={"labels": stored_array})

# 200 bytes for the names of members and the time.
LIST = ORDER.list(
    NOTES.sql,
    "agent_notes",
    size=f"200 + octet_length(labels::text) + {json_size('concat(aid, owner, note, updated_by)')}",
)
FIND = f"SELECT {NOTES.sql} FROM agent_notes WHERE aid = $1"
LOCK = f"{FIND} FOR NO KEY UPDATE"
OWNERS = "SELECT aid, owner FROM agent_notes WHERE aid = ANY($1::text[]) AND owner IS NOT NULL"

UPSERT = f"""
INSERT INTO agent_notes AS stored ({NOTES.sql}) VALUES ($1, $2, $3, $4::jsonb, $5, $6)
ON CONFLICT (aid) DO UPDATE
SET owner = excluded.owner, note = excluded.note, labels = excluded.labels, updated_by = excluded.updated_by,
    updated_at = excluded.updated_at
RETURNING {NOTES.sql}
"""
DELETE = "DELETE FROM agent_notes WHERE aid = $1"


async def page(conn: Connection, query: NotesQuery, window: Window) -> NotesList:
    """Return one page, the newest change first."""
    where = Where()
    where.add("aid = {}", query.aid)
    where.add("owner = {}", query.owner)
    where.add("labels @> jsonb_build_array({}::text)", query.label)
    page = await ORDER.fetch(conn, LIST, where, window)
    return NotesList([NOTES.read(row) for row in page.rows], page.next_before)


async def find(conn: Connection, aid: str) -> Notes | None:
    return NOTES.find(await conn.fetchrow(FIND, aid))


async def lock(conn: Connection, aid: str) -> Notes | None:
    return NOTES.find(await conn.fetchrow(LOCK, aid))


async def owners(conn: Connection, aids: Collection[str]) -> dict[str, str]:
    """Return the owners of those agents that have one."""
    return {row["aid"]: row["owner"] for row in await conn.fetch(OWNERS, list(aids))}


async def upsert(conn: Connection, aid: str, new: NewNotes, by: str, now: datetime) -> Notes:
    labels = msgspec.json.encode(new.labels).decode()
    row = await conn.fetchrow(UPSERT, aid, new.owner, new.note, labels, by[:255], now)
    assert row is not None
    return NOTES.read(row)


async def delete(conn: Connection, aid: str) -> None:
    await conn.execute(DELETE, aid)
