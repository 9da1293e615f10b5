"""Enqueue deliveries of events that a webhook missed: it was paused, or had not subscribed to their type yet.

The outbox never looks back, so this follows the same log a second time. An event and a webhook have one delivery at
most, whoever enqueues it.
"""

from datetime import timedelta
from uuid import UUID

import msgspec

from aitp_cp.clock import kept_from
from aitp_cp.db import Connection
from aitp_cp.db.keyset import Key, Order
from aitp_cp.deliveries import outbox, store
from aitp_cp.deliveries.bulk_model import MAX_ROWS, BulkAct, Queued, Range, place_of, span_of
from aitp_cp.deliveries.model import Subscriber
from aitp_cp.errors import BodyInvalid, existing
from aitp_cp.events import positions
from aitp_cp.events import service as log
from aitp_cp.protocol.vocabulary import DELIVERABLE, DELIVERED_AS

# The second column tells whose cursor it is.
PLACE = Order("missed events", Key("seq", int), Key("id", UUID))
MAX_READS = 20  # of the log in one call: 100,000 events, some 200 ms
PAGE_BYTES = 4 * 1024 * 1024


async def replay(conn: Connection, act: BulkAct, body: Range) -> Queued:
    """Enqueue at most `limit` deliveries that events of a span of time lack, in the order of the log.

    Only events after the webhook's creation, of the types it has now, and received while deliveries are kept: those of
    earlier ones may have been swept. Raises `NotFound` and `BodyInvalid`.
    """
    webhook = existing(await store.subscriber(conn, act.webhook_id), "no such webhook")
    after, through = await _gap(conn, webhook, act, body)
    types = [kind for kind, delivered_as in DELIVERED_AS.items() if delivered_as in (webhook.events or DELIVERABLE)]
    matched, reads = 0, 0
    while after < through and matched < body.limit and reads < MAX_READS:
        page = await log.next_of_types(conn, types, after, MAX_ROWS, PAGE_BYTES)
        reads += 1
        events = [event for event in page.events if (event.seq or 0) <= through]
        known = await store.delivered_events(conn, webhook.id, [event.id for event in events])
        missing = [event for event in events if event.id not in known]
        after = page.last if page.last > after else through
        if len(missing) > body.limit - matched:
            missing = missing[: body.limit - matched]
            after = missing[-1].seq or 0
        matched += len(missing)
        if missing and act.actor is not None:
            deliveries = [
                outbox.delivery_of(event, msgspec.json.encode(event), webhook.id, act.now) for event in missing
            ]
            await store.insert_deliveries(conn, deliveries, act.now)
    more = after < through
    next_after = PLACE.cursor((after, webhook.id)) if more else msgspec.UNSET
    return Queued(matched, 0 if act.actor is None else matched, more, next_after)


async def _gap(conn: Connection, webhook: Subscriber, act: BulkAct, body: Range) -> tuple[int, int]:
    """Return the part of the log that the request names, up to where the outbox is: positions in (after, through]."""
    since, until = span_of(body, act.now)
    place = place_of(PLACE, body.after)
    if place is not None and place[1] != webhook.id:
        raise BodyInvalid("after is the cursor of another webhook")
    since = max(since, kept_from(act.now, act.kept_days) or since)
    after = max(webhook.sees_after, await positions.before(conn, since), 0 if place is None else place[0])
    through = await positions.before(conn, until + timedelta(microseconds=1))
    return after, min(through, await outbox.position(conn))
