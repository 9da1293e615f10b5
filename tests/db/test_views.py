"""A row that the database writes as JSON means what the struct of the same row does."""

import json
from typing import Any

import asyncpg
import msgspec
import pytest

from aitp_cp.containment import store as containments
from aitp_cp.db.views import View
from aitp_cp.events import store as events
from aitp_cp.sessions import store as sessions
from aitp_cp.tcts import queries as tcts
from aitp_cp.web.responses import encode

pytestmark = pytest.mark.anyio

VIEWS: dict[str, tuple[View[Any], str]] = {
    "audit_events": (events.VIEW, "seq"),
    "handshake_sessions": (sessions.VIEW, "session_id"),
    "issued_tcts": (tcts.TCT, "jti"),
    "delegations": (tcts.DELEGATION, "jti"),
    "containments": (containments.VIEW, "id"),
}

# Everything that a JSON string escapes or might: controls, both line separators, quotes, what HTML takes for an end.
HOSTILE = "".join(map(chr, range(1, 0x21))) + "\"\\/'\x7f\x85\u2028\u2029\ufeff\uffff</script>é😀\U0010ffff{}%s$1"
NUMBERS = '[1e400, 1.0, -0, 0.1, 12345678901234567890123, 1E-7, 1.50, -1e+2, true, false, null, {}, [], ""]'
PAYLOAD = json.dumps({"text": HOSTILE, HOSTILE: 1, "ordered": 1, "a": NUMBERS})[:-1] + f', "numbers": {NUMBERS}}}'

TYPES = """
SELECT column_name AS name, data_type AS type, is_nullable = 'YES' AS nullable, character_maximum_length AS length
FROM information_schema.columns WHERE table_name = $1
"""

JSON = [PAYLOAD, json.dumps([HOSTILE, "", "x"]), "[]", "{}", "null", '"text"', "1"]
TIMES = ["'2026-02-03T04:05:06.789012Z'", "'infinity'", "'-infinity'", "'10000-01-01'", "'0001-01-01 BC'"]


def values(column: asyncpg.Record, round: int) -> str:
    """SQL for a value of the column: a hostile one, the next extreme one, or none."""
    kind, nullable = column["type"], column["nullable"]
    if nullable and round == 1:
        return "NULL"
    if kind in {"text", "character varying"}:
        return literal(f"{round}{HOSTILE}"[: column["length"]])
    if kind == "jsonb":
        return f"{literal(JSON[round % len(JSON)])}::jsonb"
    if kind == "timestamp with time zone":
        return f"{TIMES[round % len(TIMES)]}::timestamptz"
    if kind == "uuid":
        return "gen_random_uuid()"
    return "true" if kind == "boolean" else str((2**31 if kind == "integer" else 2**63) - 1 - round)


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@pytest.mark.parametrize("table", VIEWS)
async def test_both_ways_to_read_a_row_mean_the_same(database_url: str, table: str) -> None:
    view, key = VIEWS[table]
    conn = await asyncpg.connect(database_url)
    try:
        await conn.execute("SET session_replication_role = replica")  # without triggers, which count what was reported
        columns = await conn.fetch(TYPES, table)
        for round in range(len(JSON)):
            row = ", ".join(values(column, round) for column in columns)
            await conn.execute(f"INSERT INTO {table} ({', '.join(c['name'] for c in columns)}) VALUES ({row})")
        source = f"SELECT * FROM {table} ORDER BY {key} LIMIT 100"
        made = await conn.fetch(view.page(source, key))
        structs = await conn.fetch(f"SELECT {view.sql} FROM ({source}) AS page ORDER BY page.{key}")
    finally:
        await conn.close()
    assert len(made) == len(structs) == len(JSON)
    for record, struct in zip(made, structs, strict=True):
        assert meaning(encode(view.raw([record])[0])) == meaning(encode(view.read(struct)))


def meaning(text: bytes) -> Any:
    """Members in their order, and numbers as they are written."""
    msgspec.json.decode(text)
    return json.loads(text, object_pairs_hook=list, parse_int=str, parse_float=str)
