"""Enqueues deliveries: follows the log with a cursor in the database (docs/decisions, "Deliveries follow the log").

One transaction locks the cursor, reads the next events, inserts their deliveries and moves the cursor. So a process
that dies anywhere leaves nothing half-done, one process enqueues at a time, and deliveries of a webhook fall due in the
order of `seq`.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID, uuid4

import msgspec
import structlog

from aitp_cp.clock import iso
from aitp_cp.db import Connection, Database
from aitp_cp.deliveries import store
from aitp_cp.deliveries.model import Cursor, NewDelivery, Subscriber
from aitp_cp.events import service as log
from aitp_cp.events.model import Event
from aitp_cp.protocol.vocabulary import DELIVERED_AS

logger = structlog.get_logger("aitp_cp.deliveries")

TYPES = tuple(DELIVERED_AS)
# Limits of one transaction, though it always takes one event with all its deliveries: some 30 ms, and the bodies in
# memory.
MAX_DELIVERIES = 1000
MAX_PAYLOAD_BYTES = 4 * 1024 * 1024
REWIND_MARGIN = timedelta(minutes=5)  # longer than replicas' clocks differ, and than an event waits for its commit
BEGIN_BEFORE = timedelta(days=1)
CATCH_UP_PAUSE_SECS = 0.02


class Step(NamedTuple):
    """What one transaction did; `busy` when another process holds the cursor."""

    enqueued: int = 0
    more: bool = False
    busy: bool = False


async def step(db: Database) -> Step:
    """Enqueue the deliveries of the next events, a bounded number; raises `DatabaseUnavailable`."""
    async with db.connection() as conn:
        cursor = await store.cursor(conn)
        if cursor is None:
            await _begin(conn)
        elif cursor.through == await log.newest_position(conn):
            return Step()
    async with db.transaction() as conn:
        cursor = await store.hold_cursor(conn)
        return Step(more=True, busy=True) if cursor is None else await _enqueue_next(conn, cursor)


async def catch_up(db: Database, timeout_secs: float) -> bool:
    """Enqueue everything that is in the log by now; return whether that was possible in time."""
    until = time.monotonic() + timeout_secs
    async with db.connection() as conn:
        target = await log.newest_position(conn)
    while True:
        async with db.connection() as conn:
            if await position(conn) >= target:
                return True
        done = await step(db)
        if time.monotonic() >= until:
            return False
        if done.busy:
            await asyncio.sleep(CATCH_UP_PAUSE_SECS)


async def position(conn: Connection) -> int:
    """Return the position of the log up to which deliveries are enqueued; retention deletes nothing beyond."""
    cursor = await store.cursor(conn)
    return 0 if cursor is None else cursor.through


async def lag(conn: Connection) -> int:
    """Return how many positions of the log wait to be looked at; below 0 where the log was cut off."""
    return await log.newest_position(conn) - await position(conn)


def body_of(delivery_id: UUID, event_type: str, payload: bytes, enqueued_at: datetime) -> bytes:
    """Return the bytes that are signed and sent; the same arguments always give the same bytes."""
    return msgspec.json.encode(
        {
            "deliveryId": delivery_id,
            "eventType": event_type,
            "payload": msgspec.Raw(payload),
            "enqueuedAt": iso(enqueued_at),
        }
    )


def delivery_of(event: Event, payload: bytes, webhook_id: UUID, now: datetime) -> NewDelivery:
    """Return the delivery of an event, whose JSON is `payload`, to a webhook."""
    id, event_type = uuid4(), DELIVERED_AS[event.type]
    body = body_of(id, event_type, payload, now)
    return NewDelivery(id, webhook_id, event_type, payload.decode(), body.decode(), event.id, event.seq)


async def _begin(conn: Connection) -> None:
    """Make the cursor that somebody deleted; the events of the last day may lack their deliveries."""
    through = await log.before_received(conn, datetime.now(UTC) - BEGIN_BEFORE)
    logger.warning("webhook_outbox_began_anew", at=through)
    await store.begin_cursor(conn, through)


async def _enqueue_next(conn: Connection, cursor: Cursor) -> Step:
    share = max(1, cursor.webhooks)
    rows, size = max(1, MAX_DELIVERIES // share), max(1, MAX_PAYLOAD_BYTES // share)
    page = await log.next_of_types(conn, TYPES, cursor.through, rows, size)
    if page.last == cursor.through:
        return await _rewind(conn, cursor)
    # Read after the events: a webhook that was there before one of them is seen.
    subscribers = await store.lock_active(conn) if page.events else []
    deliveries = [row for event in page.events for row in _deliveries(event, subscribers, cursor.now)]
    if deliveries:
        await store.insert_deliveries(conn, deliveries, cursor.now)
    await store.move_cursor(conn, page.last)
    return Step(len(deliveries), page.more)


async def _rewind(conn: Connection, cursor: Cursor) -> Step:
    """Where the log ends before the cursor, as after a restore, go on with the events received since the cursor moved.

    An event that has a delivery already gets no second one.
    """
    if await log.newest_position(conn) >= cursor.through:
        return Step()
    through = await log.before_received(conn, cursor.moved_at - REWIND_MARGIN)
    logger.warning("webhook_outbox_rewound", cursor=cursor.through, to=through)
    await store.move_cursor(conn, through)
    return Step(more=True)


def _deliveries(event: Event, subscribers: Sequence[Subscriber], now: datetime) -> Iterator[NewDelivery]:
    event_type, seq = DELIVERED_AS[event.type], event.seq or 0
    interested = [subscriber.id for subscriber in subscribers if subscriber.wants(event_type, seq)]
    payload = msgspec.json.encode(event) if interested else b""
    for webhook_id in interested:
        yield delivery_of(event, payload, webhook_id, now)
