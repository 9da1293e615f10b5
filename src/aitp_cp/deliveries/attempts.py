"""The attempts of a delivery, as administrators see them; `results` writes them with the result."""

from collections.abc import Sequence
from uuid import UUID

from aitp_cp.clock import iso
from aitp_cp.db import Connection, Record, Where
from aitp_cp.db.keyset import Window
from aitp_cp.db.pages import json_bytes, within_bytes
from aitp_cp.deliveries.model import ATTEMPT_ORDER, AttemptPage, AttemptView

KEPT = 50  # attempts of a delivery that a resend leaves: 200 KiB of responses

COLUMNS = "n, at, ms, status, error, head, cut"
LIST = within_bytes(
    f"SELECT {COLUMNS} FROM webhook_attempts WHERE {{where}} ORDER BY {ATTEMPT_ORDER.sql} LIMIT {{limit}}"
    " OFFSET {offset}",
    columns=COLUMNS,
    size=f"200 + coalesce({json_bytes('error')}, 0) + coalesce({json_bytes('head')}, 0)",
    order=ATTEMPT_ORDER.sql,
)

FORGET_OLD = """
DELETE FROM webhook_attempts AS old
USING unnest($1::uuid[]) AS resent (id)
WHERE old.delivery_id = resent.id
  AND old.n <= (SELECT max(a.n) FROM webhook_attempts AS a WHERE a.delivery_id = resent.id) - $2
"""


async def page(conn: Connection, delivery_id: UUID, window: Window) -> AttemptPage:
    """List a delivery's attempts, newest first."""
    where = Where()
    where.add("delivery_id = {}", delivery_id)
    ATTEMPT_ORDER.restrict(where, window.before)
    statement = LIST.format(where=where.sql(), limit=where.bind(window.rows), offset=where.bind(window.offset))
    found = ATTEMPT_ORDER.page(await conn.fetch(statement, *where.args), window)
    return AttemptPage([_attempt(row) for row in found.rows], len(found.rows), found.next_before)


async def forget_old(conn: Connection, delivery_ids: Sequence[UUID]) -> None:
    """Delete all but the newest attempts of deliveries that begin anew, so that resending adds no end of rows."""
    await conn.execute(FORGET_OLD, delivery_ids, KEPT)


def _attempt(row: Record) -> AttemptView:
    return AttemptView(
        n=row["n"],
        at=iso(row["at"]),
        ms=row["ms"],
        status=row["status"],
        error=row["error"],
        response_head=row["head"],
        truncated=row["cut"],
    )
