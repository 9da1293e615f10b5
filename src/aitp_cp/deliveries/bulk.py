"""Queue many deliveries at once: counted first if wanted, audited, in bounded steps (contract, section 12)."""

import msgspec

from aitp_cp.audit import service as audit
from aitp_cp.db import Connection
from aitp_cp.deliveries import missing, resending
from aitp_cp.deliveries.bulk_model import BulkAct, Queued, Range, Resend, filter_of, span_of
from aitp_cp.deliveries.model import DeliveryFilter, DeliveryStatus
from aitp_cp.deliveries.service import is_active


async def resend(conn: Connection, act: BulkAct, body: Resend) -> Queued:
    """Send finished deliveries again, byte for byte. Raises `NotFound` and `BodyInvalid`."""
    filter = filter_of(body)
    await is_active(conn, act.webhook_id)
    queued = await resending.resend(conn, act, filter, body)
    await _record(conn, "webhook.resend", act, body, queued)
    return queued


async def recover(conn: Connection, act: BulkAct, body: Range) -> Queued:
    """Send the failed deliveries of a span of time again. Raises `NotFound` and `BodyInvalid`."""
    since, until = span_of(body, act.now)
    failed = DeliveryFilter(status=DeliveryStatus.FAILED, since=since, until=until)
    await is_active(conn, act.webhook_id)
    queued = await resending.resend(conn, act, failed, body)
    await _record(conn, "webhook.recover", act, body, queued)
    return queued


async def replay_missing(conn: Connection, act: BulkAct, body: Range) -> Queued:
    """Enqueue what a webhook missed in a span of time. Raises `NotFound` and `BodyInvalid`."""
    queued = await missing.replay(conn, act, body)
    await _record(conn, "webhook.replay-missing", act, body, queued)
    return queued


async def _record(conn: Connection, action: audit.Action, act: BulkAct, body: Resend | Range, queued: Queued) -> None:
    """Record the selection, with the number of ids instead of the ids, and the result, unless it was only counted."""
    if act.actor is None:
        return
    members = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not None}
    members.pop("after", None)
    if body_ids := members.get("ids"):
        members["ids"] = len(body_ids)
    details = {**members, "matched": queued.matched, "queued": queued.queued, "more": queued.more}
    await audit.record(conn, action, act.actor, str(act.webhook_id), details, act.now)
