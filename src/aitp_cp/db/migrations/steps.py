"""Building blocks of revisions: plain SQL that is safe on a live table and safe to repeat."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from alembic import op
from sqlalchemy import Row

from aitp_cp.db.numbering import number_unsequenced

_INDEX_IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)"
_NUMBER_BATCH = 10_000


def report(step: str) -> None:
    """Call what `upgrade` was given for each step."""
    config = op.get_context().config
    assert config is not None
    config.attributes["report"](step)


def execute(statement: str) -> None:
    op.get_bind().exec_driver_sql(statement)


def execute_apart(statements: Iterable[str]) -> None:
    """Run each statement in its own transaction, so that no lock on a table outlives its change."""
    with op.get_context().autocommit_block():
        for statement in statements:
            execute(statement)


def fetch(query: str, *args: Any) -> list[Row[Any]]:
    return list(op.get_bind().exec_driver_sql(query, args).fetchall())


def build_indexes(indexes: Mapping[str, str], *, unique: bool = False) -> None:
    """Build the missing indexes of `{name: "table (columns)"}` without blocking writers.

    An index that an interrupted build left invalid is dropped and built again.
    """
    kind = "UNIQUE INDEX" if unique else "INDEX"
    with _concurrently():
        for name, target in indexes.items():
            validity = fetch(_INDEX_IS_VALID, name)
            if validity and validity[0][0]:
                continue
            if validity:
                execute(f"DROP INDEX CONCURRENTLY {name}")
            execute(f"CREATE {kind} CONCURRENTLY IF NOT EXISTS {name} ON {target}")
            report(f"index {name}")


def drop_indexes(names: Iterable[str]) -> None:
    """Drop indexes without blocking readers or writers."""
    with _concurrently():
        for name in names:
            execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def number_events() -> None:
    """Give every event without a log position one, oldest first, a batch to a transaction."""
    total = 0
    driver: Any = op.get_bind().connection.dbapi_connection
    with op.get_context().autocommit_block():
        while numbered := driver.run_async(lambda conn: number_unsequenced(conn, _NUMBER_BATCH, adopt=False)):
            total += numbered
            report(f"{total} events numbered")


@contextmanager
def _concurrently() -> Iterator[None]:
    """Run outside a transaction and without a lock timeout: a concurrent build waits for every older transaction."""
    with op.get_context().autocommit_block():
        previous = fetch("SHOW lock_timeout")[0][0]
        execute("SET lock_timeout = 0")
        try:
            yield
        finally:
            execute(f"SET lock_timeout = '{previous}'")
