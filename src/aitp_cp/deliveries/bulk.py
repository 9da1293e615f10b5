"""Queue many deliveries at once: counted first if wanted, audited, in bounded steps (contract, section 12)."""

from datetime import datetime
from uuid import UUID

import msgspec

from aitp_cp.audit import service as audit
from aitp_cp.audit.model import Actor
from aitp_cp.clock import kept_from
from aitp_cp.db import Connection
from aitp_cp.deliveries import missing, resending
from aitp_cp.deliveries.bulk_model import Queued, Range, Resend, filter_of, span_of
from aitp_cp.deliveries.model import DeliveryFilter, DeliveryStatus
from aitp_cp.deliveries.service import is_active


class Act(msgspec.Struct, frozen=True):
    """What is done to which webhook, by whom; without an actor it is only counted.

    Retention keeps finished deliveries for `kept_days`, 0 means for ever.
    """

    webhook_id: UUID
    actor: Actor | None
    now: datetime
    kept_days: int


async def resend(conn: Connection, act: Act, body: Resend) -> Queued:
    """Send finished deliveries again, byte for byte. Raises `NotFound` and `BodyInvalid`."""
    queued = await _send_again(conn, act, body, filter_of(body))
    if act.actor is not None:
        await audit.record(conn, "webhook.resend", act.actor, str(act.webhook_id), _details(body, queued), act.now)
    return queued


async def recover(conn: Connection, act: Act, body: Range) -> Queued:
    """Send the failed deliveries of a span of time again. Raises `NotFound` and `BodyInvalid`."""
    span = span_of(body, act.now)
    failed = DeliveryFilter(status=DeliveryStatus.FAILED, since=span.since, until=span.until)
    queued = await _send_again(conn, act, body, failed)
    if act.actor is not None:
        await audit.record(conn, "webhook.recover", act.actor, str(act.webhook_id), _details(body, queued), act.now)
    return queued


async def replay_missing(conn: Connection, act: Act, body: Range) -> Queued:
    """Enqueue what a webhook missed in a span of time. Raises `NotFound` and `BodyInvalid`."""
    oldest, dry_run = kept_from(act.now, act.kept_days), act.actor is None
    queued = await missing.replay(conn, act.webhook_id, body, kept_from=oldest, dry_run=dry_run, now=act.now)
    if act.actor is not None:
        target, details = str(act.webhook_id), _details(body, queued)
        await audit.record(conn, "webhook.replay-missing", act.actor, target, details, act.now)
    return queued


async def _send_again(conn: Connection, act: Act, body: Resend | Range, filter: DeliveryFilter) -> Queued:
    await is_active(conn, act.webhook_id)
    dry_run = act.actor is None
    return await resending.resend(conn, act.webhook_id, filter, limit=body.limit, after=body.after, dry_run=dry_run)


def _details(body: Resend | Range, queued: Queued) -> dict[str, object]:
    """For the audit: the selection, with the number of ids instead of the ids, and the result."""
    members = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not None}
    members.pop("after", None)
    if body_ids := members.get("ids"):
        members["ids"] = len(body_ids)
    return {**members, "matched": queued.matched, "queued": queued.queued, "more": queued.more}
