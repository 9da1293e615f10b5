"""Statements on a table whose rows are merged from reports of several callers (`aitp_cp.tcts.callers`)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic

import msgspec

from aitp_cp.db import Connection, Record
from aitp_cp.tcts.callers import K, Reported, Row, S, first_row, restored, stored_states

# Beside the reported columns: the first caller, whether others disagree, and what each of them reported.
KEPT = {"reported_by": "text", "conflict": "boolean", "caller_states": "jsonb"}
_INSERT = """
INSERT INTO {table} ({names}, {stamps}) SELECT {values}, {nows} FROM unnest({arrays}) AS new ({names})
ON CONFLICT ({key}) DO NOTHING
RETURNING {key}
"""
_LOCK = "SELECT {names}{also} FROM {table} WHERE {key} = ANY($1::{type}[]) ORDER BY {key} FOR UPDATE"
_UPDATE = """
UPDATE {table} AS stored SET {assignments} FROM (SELECT {values} FROM unnest({arrays}) AS reported ({names})) AS new
WHERE stored.{key} = new.{key}
"""


@dataclass(frozen=True)
class Table(Generic[K, S]):
    """`columns` are the reported ones with their types, the key first.

    `values` and `state` turn a state into those columns and back; lists of names are kept as `jsonb`.
    """

    name: str
    columns: Mapping[str, str]
    values: Callable[[S], Sequence[Any]]
    state: Callable[[Record], S]
    decoder: msgspec.json.Decoder[Row[S]]
    also_read: str = ""  # a further column for `state`
    has_updated_at: bool = False  # beside `created_at`

    async def merge(
        self, conn: Connection, reports: Mapping[K, Sequence[Reported[S]]], now: datetime
    ) -> dict[K, Row[S]]:
        """Write reports, which come in key order, and return the rows that are new or have changed.

        Transactions that touch a row follow each other from here to their commits, and each appends to the log in
        between: so the order of rows is the log's order.
        """
        if not reports:
            return {}
        rows = {key: first_row(of_key) for key, of_key in reports.items()}
        new = await self._insert_missing(conn, rows, now)
        rest = [key for key in reports if key not in new]
        stored = await self.lock(conn, rest) if rest else {}
        after = {key: row.with_reports(reports[key]) for key, row in stored.items()}
        changed = {key: row for key, row in after.items() if row != stored[key]}
        if changed:
            await self._update(conn, changed, now)
        return {key: rows[key] for key in new} | changed

    async def lock(self, conn: Connection, keys: Sequence[K]) -> dict[K, Row[S]]:
        """Read rows and lock them to the end of the transaction."""
        also = f", {self.also_read}" if self.also_read else ""
        rows = {}
        for record in await conn.fetch(_LOCK.format(also=also, **self._parts()), keys):
            states = record["caller_states"]
            kept = None if states is None else self.decoder.decode(states)
            rows[record[0]] = restored(self.state(record), record["reported_by"], kept)
        return rows

    async def _insert_missing(self, conn: Connection, rows: Mapping[K, Row[S]], now: datetime) -> set[K]:
        """Insert missing rows and return their keys; waits for concurrent transactions with the same keys."""
        stamps = ["created_at", *(["updated_at"] if self.has_updated_at else [])]
        nows = ", ".join([self._now] * len(stamps))
        statement = _INSERT.format(stamps=", ".join(stamps), nows=nows, **self._parts())
        return {record[0] for record in await conn.fetch(statement, *self._arrays(rows), now)}

    async def _update(self, conn: Connection, rows: Mapping[K, Row[S]], now: datetime) -> None:
        assignments = [f"{name} = new.{name}" for name in (*self.columns, *KEPT) if name != self._key]
        arguments = self._arrays(rows)
        if self.has_updated_at:
            assignments.append(f"updated_at = {self._now}")
            arguments.append(now)
        await conn.execute(_UPDATE.format(assignments=", ".join(assignments), **self._parts()), *arguments)

    @property
    def _key(self) -> str:
        return next(iter(self.columns))

    @property
    def _now(self) -> str:
        return f"${len(self.columns) + len(KEPT) + 1}::timestamptz"

    def _parts(self) -> dict[str, str]:
        types = {**self.columns, **KEPT}
        return {
            "table": self.name,
            "key": self._key,
            "type": self.columns[self._key],
            "names": ", ".join(types),
            "values": ", ".join(f"{name}::jsonb" if kind == "jsonb" else name for name, kind in types.items()),
            "arrays": ", ".join(
                f"${place}::{'text' if kind == 'jsonb' else kind}[]" for place, kind in enumerate(types.values(), 1)
            ),
        }

    def _arrays(self, rows: Mapping[K, Row[S]]) -> list[Any]:
        return [list(column) for column in zip(*map(self._kept, rows.values()), strict=True)]

    def _kept(self, row: Row[S]) -> tuple[Any, ...]:
        return (*self.values(row.shown), row.owner, row.conflict, stored_states(row))


def as_json(names: list[str]) -> str:
    return msgspec.json.encode(names).decode()


def as_names(text: str | None) -> list[str]:
    """Read a stored list of names; drop what an older control plane may have left that is not text."""
    names = msgspec.json.decode(text) if text else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
