"""The attempts of a delivery, as administrators see them; `results` writes them with the result."""

from collections.abc import Sequence
from uuid import UUID

from aitp_cp.clock import iso
from aitp_cp.db import Connection, Where
from aitp_cp.db.keyset import Window
from aitp_cp.db.pages import json_size
from aitp_cp.db.views import View
from aitp_cp.deliveries.model import ATTEMPT_ORDER, AttemptPage, AttemptView

KEPT = 50  # attempts of a delivery that a resend leaves: 200 KiB of responses

ATTEMPT = View(AttemptView, {"response_head": "head", "truncated": "cut"}, convert={"at": iso})
LIST = ATTEMPT_ORDER.list(
    ATTEMPT.sql,
    "webhook_attempts",
    size=f"200 + {json_size('error')} + {json_size('head')}",
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
    page = await ATTEMPT_ORDER.fetch(conn, LIST, where, window)
    return AttemptPage([ATTEMPT.read(row) for row in page.rows], len(page.rows), page.next_before)


async def forget_old(conn: Connection, delivery_ids: Sequence[UUID]) -> None:
    """Delete all but the newest attempts of deliveries that are sent again: resending adds a bounded number of rows."""
    await conn.execute(FORGET_OLD, delivery_ids, KEPT)
