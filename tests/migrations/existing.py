"""A database as the TypeScript control plane left it, made from `existing-schema.json`."""

import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

FACTS = json.loads(Path(__file__).with_name("existing-schema.json").read_text())
COLUMNS: dict[str, list[list[str]]] = {}
for table, *column in FACTS["columns"]:
    COLUMNS.setdefault(table, []).append(column)
KEYS = {
    table: (name, re.sub(r".*\((.*)\)", r"\1", definition))
    for table, name, definition in FACTS["indexes"]
    if re.search(r"_pk(ey)?$", name)
}
INDEXES = [index for index in FACTS["indexes"] if index[1] != KEYS[index[0]][0]]

_FOREIGN_KEY_NAME = "webhook_deliveries_webhook_id_webhooks_id_fk"
_JOURNAL = """
CREATE SCHEMA drizzle;
CREATE TABLE drizzle.__drizzle_migrations (id serial PRIMARY KEY, hash text NOT NULL, created_at bigint);
INSERT INTO drizzle.__drizzle_migrations (hash, created_at) SELECT md5(n::text), n FROM generate_series(0, 7) AS n;
"""
_MANY_EVENTS = """
INSERT INTO audit_events (id, type, ts, aid_a, session_id, run_id, payload)
SELECT gen_random_uuid(), 'handshake.started',
       '2025-01-01'::timestamptz + (n * 7919::bigint % $1) * interval '1 minute',
       'aid:pubkey:' || n % 50, 's' || n % 1000, 'r' || n % 10, jsonb_build_object('n', n)
FROM generate_series(1, $1::integer) AS n
"""
_TEXTS = ("x", "Grüße, 世界 👋 'quoted' \\ back\nslash", "")
_JSON = ('{"a": [1, {"b": null}]}', "[]", '"\\u00e9"', "0.10")


async def create(conn: asyncpg.Connection) -> None:
    for table, columns in COLUMNS.items():
        name, key = KEYS[table]
        lines = [
            f"{column} {kind} {null} {'DEFAULT ' + default if default else ''}"
            for column, kind, null, default in columns
        ]
        await conn.execute(f"CREATE TABLE {table} ({', '.join(lines)}, CONSTRAINT {name} PRIMARY KEY ({key}))")
    for table, name, definition in INDEXES:
        kind = "UNIQUE INDEX" if definition.startswith("UNIQUE") else "INDEX"
        await conn.execute(f"CREATE {kind} {name} ON {table} {definition.removeprefix('UNIQUE ')}")
    for table, definition in FACTS["foreign_keys"]:
        await conn.execute(f"ALTER TABLE {table} ADD CONSTRAINT {_FOREIGN_KEY_NAME} {definition}")
    await conn.execute(_JOURNAL)


async def fill(conn: asyncpg.Connection) -> None:
    """Into every table: full rows, rows with every nullable column null, rows of defaults alone."""
    webhooks = await _fill_table(conn, "webhooks")
    for table in COLUMNS.keys() - {"webhooks"}:
        await _fill_table(conn, table, webhooks)
    await conn.execute("UPDATE agents SET status = 'deregistered' WHERE aid LIKE '%-1'")


async def add_events(conn: asyncpg.Connection, count: int) -> None:
    """Events whose times are in another order than their rows."""
    await conn.execute(_MANY_EVENTS, count)


async def rows(conn: asyncpg.Connection) -> dict[str, list[tuple[str | None, ...]]]:
    """Every value of every existing column, as text."""
    found = {}
    for table, columns in COLUMNS.items():
        names = ", ".join(f"{name}::text" for name, *_ in columns)
        found[table] = [
            tuple(row) for row in await conn.fetch(f"SELECT {names} FROM {table} ORDER BY {KEYS[table][1]}")
        ]
    journal = await conn.fetch("SELECT id::text, hash, created_at::text FROM drizzle.__drizzle_migrations ORDER BY id")
    return found | {"journal": [tuple(row) for row in journal]}


async def _fill_table(conn: asyncpg.Connection, table: str, webhooks: list[Any] | None = None) -> list[Any]:
    first = []
    for number in range(12):
        values = {
            name: webhooks[number % len(webhooks)] if name == "webhook_id" and webhooks else _value(name, kind, number)
            for name, kind, null, default in COLUMNS[table]
            if number % 3 == 0 or _is_needed(table, name, null, default, number)
        }
        places = ", ".join(f"${place}" for place in range(1, len(values) + 1))
        await conn.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})", *values.values())
        first.append(next(iter(values.values())))
    return first


def _is_needed(table: str, name: str, null: str, default: str, number: int) -> bool:
    in_key = name in KEYS[table][1].split(", ")
    return in_key or (null == "not null" and (not default or number % 3 == 1))


def _value(name: str, kind: str, number: int) -> Any:
    if kind.startswith("character varying"):
        limit = int(kind[len("character varying(") : -1])
        return f"{'é' * (limit - 8)}-{number}" if number % 2 else f"{name}-{number}"[:limit]
    return {
        "uuid": uuid.UUID(int=number * 2**96 + len(name)),
        "text": f"{name} {number} {_TEXTS[number % len(_TEXTS)]}",
        "jsonb": _JSON[number % len(_JSON)],
        "boolean": number % 2 == 0,
        "integer": number * 1_000_003,
        "timestamp with time zone": datetime(2025, 3, 30, 0, 59, 59, 123456, UTC) + timedelta(days=97 * number),
    }[kind]
