"""Delete old rows of a table: oldest first, in batches, by an index."""

from datetime import datetime

from aitp_cp.db.pool import Connection

_DELETE = """
DELETE FROM {table} WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {table} WHERE {column} < $1{only} ORDER BY {column} LIMIT $2 FOR UPDATE SKIP LOCKED
))
"""
_COUNT = "SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {column} < $1{only} LIMIT $2) AS due"


class OldRows:
    """The rows of `table` whose `column` lies before some time; `only` is a further condition."""

    def __init__(self, table: str, column: str, only: str = "") -> None:
        parts = {"table": table, "column": column, "only": only and f" AND {only}"}
        self._delete, self._count = _DELETE.format(**parts), _COUNT.format(**parts)

    async def delete(self, conn: Connection, before: datetime, limit: int) -> int:
        """Delete at most `limit` rows and return how many, skipping locked rows."""
        return int((await conn.execute(self._delete, before, limit)).rpartition(" ")[2])

    async def count(self, conn: Connection, before: datetime, limit: int) -> int:
        """Return how many rows are due, counted up to `limit`."""
        return int(await conn.fetchval(self._count, before, limit))
