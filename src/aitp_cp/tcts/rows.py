"""Statements on a table whose rows are merged from reports of several callers (`aitp_cp.tcts.callers`)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic

import msgspec

from aitp_cp.db import Connection, Record
from aitp_cp.tcts.callers import K, Row, S, StoredRow, restored, stored_states

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
    """`columns` are the reported ones with their types, the key first; `created` and `updated` get the time of writing.

    `values` and `state` turn a state into those columns and back; lists of names are kept as `jsonb`.
    """

    name: str
    columns: Mapping[str, str]
    created: Sequence[str]
    updated: Sequence[str]
    values: Callable[[S], Sequence[Any]]
    state: Callable[[Record], S]
    decoder: msgspec.json.Decoder[Row[S]]
    also_read: str = ""  # a further column for `state`

    async def insert_missing(self, conn: Connection, rows: Mapping[K, Row[S]], now: Any) -> set[K]:
        """Insert missing rows and return their keys; waits for concurrent transactions with the same keys."""
        statement = _INSERT.format(stamps=", ".join(self.created), nows=self._nows(self.created), **self._parts())
        records = await conn.fetch(statement, *self._arrays(rows), now)
        return {record[0] for record in records}

    async def lock(self, conn: Connection, keys: Sequence[K]) -> dict[K, Row[S]]:
        """Read rows and lock them to the end of the transaction."""
        also = f", {self.also_read}" if self.also_read else ""
        records = await conn.fetch(_LOCK.format(also=also, **self._parts()), keys)
        return {record[0]: self._restored(record) for record in records}

    async def update(self, conn: Connection, rows: Mapping[K, Row[S]], now: Any) -> None:
        """Write rows that `lock` returned."""
        names = [name for name in (*self.columns, *KEPT) if name != self._key]
        assignments = [f"{name} = new.{name}" for name in names]
        arguments = self._arrays(rows)
        if self.updated:
            assignments += [f"{name} = {self._nows([name])}" for name in self.updated]
            arguments.append(now)
        await conn.execute(_UPDATE.format(assignments=", ".join(assignments), **self._parts()), *arguments)

    @property
    def _key(self) -> str:
        return next(iter(self.columns))

    def _nows(self, stamps: Sequence[str]) -> str:
        return ", ".join(f"${len(self.columns) + len(KEPT) + 1}::timestamptz" for _ in stamps)

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

    def _restored(self, record: Record) -> Row[S]:
        stored = StoredRow(self.state(record), record["reported_by"], record["caller_states"])
        return restored(stored, self.decoder)


def as_json(names: list[str]) -> str:
    return msgspec.json.encode(names).decode()


def as_names(text: str | None) -> list[str]:
    """Read a stored list of names; drop what an older control plane may have left that is not text."""
    names = msgspec.json.decode(text) if text else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
