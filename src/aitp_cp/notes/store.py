"""Statements on agent_notes."""

from collections.abc import Collection
from datetime import datetime

import msgspec

from aitp_cp.clock import iso
from aitp_cp.db import Connection, Record, Where
from aitp_cp.db.arrays import stored_array
from aitp_cp.db.keyset import Window
from aitp_cp.db.pages import json_bytes, within_bytes
from aitp_cp.notes.model import ORDER, NewNotes, Notes, NotesList, NotesQuery

COLUMNS = "aid, owner, note, labels, updated_by, updated_at"

# 200 bytes for the names of members and the time.
LIST = within_bytes(
    f"SELECT {COLUMNS} FROM agent_notes WHERE {{where}} ORDER BY {ORDER.sql} LIMIT {{limit}} OFFSET {{offset}}",
    columns=COLUMNS,
    size=f"200 + octet_length(labels::text) + {json_bytes('concat(aid, owner, note, updated_by)')}",
    order=ORDER.sql,
)
FIND = f"SELECT {COLUMNS} FROM agent_notes WHERE aid = $1"
LOCK = f"{FIND} FOR NO KEY UPDATE"
OWNERS = "SELECT aid, owner FROM agent_notes WHERE aid = ANY($1::text[]) AND owner IS NOT NULL"

UPSERT = f"""
INSERT INTO agent_notes AS stored ({COLUMNS}) VALUES ($1, $2, $3, $4::jsonb, $5, $6)
ON CONFLICT (aid) DO UPDATE
SET owner = excluded.owner, note = excluded.note, labels = excluded.labels, updated_by = excluded.updated_by,
    updated_at = excluded.updated_at
RETURNING {COLUMNS}
"""
DELETE = "DELETE FROM agent_notes WHERE aid = $1"


async def page(conn: Connection, query: NotesQuery, window: Window) -> NotesList:
    """Return one page, the newest change first."""
    where = Where()
    where.add("aid = {}", query.aid)
    where.add("owner = {}", query.owner)
    where.add("labels @> jsonb_build_array({}::text)", query.label)
    ORDER.restrict(where, window.before)
    statement = LIST.format(where=where.sql(), limit=where.bind(window.rows), offset=where.bind(window.offset))
    found = ORDER.page(await conn.fetch(statement, *where.args), window)
    return NotesList([_notes(row) for row in found.rows], found.next_before)


async def find(conn: Connection, aid: str) -> Notes | None:
    row = await conn.fetchrow(FIND, aid)
    return None if row is None else _notes(row)


async def lock(conn: Connection, aid: str) -> Notes | None:
    row = await conn.fetchrow(LOCK, aid)
    return None if row is None else _notes(row)


async def owners(conn: Connection, aids: Collection[str]) -> dict[str, str]:
    """Return the owners of those agents that have one."""
    return {row["aid"]: row["owner"] for row in await conn.fetch(OWNERS, list(aids))}


async def upsert(conn: Connection, aid: str, new: NewNotes, by: str, now: datetime) -> Notes:
    labels = msgspec.json.encode(new.labels).decode()
    row = await conn.fetchrow(UPSERT, aid, new.owner, new.note, labels, by[:255], now)
    assert row is not None
    return _notes(row)


async def delete(conn: Connection, aid: str) -> None:
    await conn.execute(DELETE, aid)


def _notes(row: Record) -> Notes:
    return Notes(
        aid=row["aid"],
        owner=row["owner"],
        note=row["note"],
        labels=stored_array(row["labels"]),
        updated_by=row["updated_by"],
        updated_at=iso(row["updated_at"]),
    )
