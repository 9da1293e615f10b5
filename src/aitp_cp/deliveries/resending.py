"""Send many finished deliveries again: those of a selection, or the failed ones of a time (contract, section 12)."""

from collections.abc import Sequence
from uuid import UUID

from aitp_cp.db import Connection
from aitp_cp.deliveries import attempts
from aitp_cp.deliveries.bulk_model import MAX_COUNTED, BulkAct, Queued, Range, Resend, place_of
from aitp_cp.deliveries.model import OLDEST_FIRST, DeliveryFilter
from aitp_cp.deliveries.store import narrowed

# A delivery that waits or is being sent is left alone: it is on its way.
FINISHED = "status IN ('delivered', 'failed')"

COUNT = "SELECT count(*) FROM (SELECT FROM webhook_deliveries WHERE {where} LIMIT {limit}) AS matching"

PICK = f"""
SELECT id, created_at FROM webhook_deliveries WHERE {{where}} ORDER BY {OLDEST_FIRST.sql} LIMIT {{limit}} FOR UPDATE
"""

# Due a microsecond apart, in their order. A delivery that is being sent stays as it is: its result is about to be
# recorded. The ids come as an array because a join would let the planner read the table.
REQUEUE = """
UPDATE webhook_deliveries AS d
SET status = 'pending', attempts = 0, next_retry_at = now() + place * interval '1 microsecond', status_code = NULL,
    error = NULL, delivered_at = NULL, lease_until = NULL, lease_token = NULL
FROM unnest($1::uuid[]) WITH ORDINALITY AS picked (id, place)
WHERE d.id = picked.id AND (d.lease_until IS NULL OR d.lease_until <= now())
"""


async def resend(conn: Connection, act: BulkAct, filter: DeliveryFilter, body: Resend | Range) -> Queued:
    """Queue at most `limit` finished deliveries that match, oldest first, with all attempts left.

    Raises `BodyInvalid` for a cursor that is none.
    """
    where, limit = narrowed(act.webhook_id, filter), body.limit
    where.always(FINISHED)
    OLDEST_FIRST.restrict(where, place_of(OLDEST_FIRST, body.after))
    conditions = where.sql()
    bound = where.bind(MAX_COUNTED)
    matched = await conn.fetchval(COUNT.format(where=conditions, limit=bound), *where.args)
    if act.actor is None or not matched:
        return Queued(matched, 0, matched > limit)
    where.args[-1] = limit
    picked = await conn.fetch(PICK.format(where=conditions, limit=bound), *where.args)
    ids = [row["id"] for row in picked]
    await requeue(conn, ids)
    if len(ids) < limit or matched <= limit:
        return Queued(matched, len(ids), False)
    return Queued(matched, len(ids), True, OLDEST_FIRST.cursor(OLDEST_FIRST.place(picked[-1])))


async def requeue(conn: Connection, ids: Sequence[UUID]) -> None:
    """Make deliveries due in this order, with all attempts left; those that are being sent stay as they are."""
    await attempts.forget_old(conn, ids)
    await conn.execute(REQUEUE, ids)
