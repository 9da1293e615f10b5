"""Enqueues deliveries: follows the log with a cursor in the database (docs/decisions, "Deliveries follow the log").

One transaction holds the cursor, reads the next events, inserts their deliveries and moves the cursor. So a process
that dies anywhere leaves nothing half-done, one process enqueues at a time, and deliveries of a webhook are due in the
order of `seq`.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol
from uuid import UUID, uuid4

import msgspec
import structlog

from aitp_cp.clock import iso
from aitp_cp.db import Connection, Database
from aitp_cp.deliveries import store
from aitp_cp.deliveries.model import ALIASES, DELIVERABLE, Cursor, NewDelivery, Subscriber, delivered_as
from aitp_cp.events import service as log

logger = structlog.get_logger("aitp_cp.deliveries")

TYPES = (*sorted(DELIVERABLE), *ALIASES)
# Of one transaction, though always one event with all of its deliveries: some 30 ms, and memory for the bodies.
MAX_DELIVERIES = 1000
MAX_PAYLOAD_BYTES = 4 * 1024 * 1024
# Longer than the clocks of replicas differ, and than an event waits for its commit.
REWIND_MARGIN = timedelta(minutes=5)
BEGIN_BEFORE = timedelta(days=1)
CATCH_UP_PAUSE_SECS = 0.02


class Deliverable(Protocol):
    """What the outbox needs to know of an event; the rest is encoded as it is."""

    @property
    def id(self) -> UUID: ...

    @property
    def type(self) -> str: ...

    @property
    def seq(self) -> int | None: ...


class Step(NamedTuple):
    """What one transaction did; `busy` when another process holds the cursor."""

    enqueued: int = 0
    more: bool = False
    busy: bool = False


async def step(db: Database) -> Step:
    """Enqueue the deliveries of the next events, a bounded number; raises `DatabaseUnavailable`."""
    async with db.connection() as conn:
        if await store.cursor(conn) is None:
            await _begin(conn)
        elif await lag(conn) == 0:
            return Step()
    async with db.transaction() as conn:
        cursor = await store.hold_cursor(conn)
        return Step(more=True, busy=True) if cursor is None else await _enqueue_next(conn, cursor)


async def catch_up(db: Database, timeout_secs: float) -> bool:
    """Enqueue everything that is in the log by now; whether that was possible in time."""
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout_secs
    async with db.connection() as conn:
        target = await log.newest_position(conn)
    while await _position(db) < target:
        done = await step(db)
        if loop.time() >= until:
            return False
        if done.busy:
            await asyncio.sleep(CATCH_UP_PAUSE_SECS)
    return True


async def position(conn: Connection) -> int:
    """Up to which position of the log deliveries are enqueued: retention deletes nothing beyond."""
    cursor = await store.cursor(conn)
    return 0 if cursor is None else cursor.through


async def lag(conn: Connection) -> int:
    """How many positions of the log wait to be looked at; below 0 where the log was cut off."""
    return await log.newest_position(conn) - await position(conn)


def body_of(delivery_id: UUID, event_type: str, payload: bytes, enqueued_at: datetime) -> bytes:
    """The bytes that are signed and sent; the same arguments always give the same bytes."""
    return msgspec.json.encode(
        {
            "deliveryId": delivery_id,
            "eventType": event_type,
            "payload": msgspec.Raw(payload),
            "enqueuedAt": iso(enqueued_at),
        }
    )


async def _begin(conn: Connection) -> None:
    """Make the cursor that somebody deleted: what was received of late may lack its deliveries."""
    through = await log.before_received(conn, datetime.now(UTC) - BEGIN_BEFORE)
    logger.warning("webhook_outbox_began_anew", at=through)
    await store.begin_cursor(conn, through)


async def _position(db: Database) -> int:
    async with db.connection() as conn:
        return await position(conn)


async def _enqueue_next(conn: Connection, cursor: Cursor) -> Step:
    share = max(1, cursor.webhooks)
    rows, size = max(1, MAX_DELIVERIES // share), max(1, MAX_PAYLOAD_BYTES // share)
    page = await log.next_of_types(conn, TYPES, cursor.through, rows, size)
    if page.last == cursor.through:
        return await _rewind(conn, cursor)
    # Read after the events: a webhook that was there before one of them is seen.
    webhooks = await store.lock_active(conn) if page.events else []
    deliveries = [one for event in page.events for one in _deliveries(event, webhooks, cursor.now)]
    if deliveries:
        await store.insert_deliveries(conn, deliveries, cursor.now)
    await store.move_cursor(conn, page.last)
    return Step(len(deliveries), page.more)


async def _rewind(conn: Connection, cursor: Cursor) -> Step:
    """The log ends before the cursor, as after a restore: go on with what was received since the cursor moved last.

    What has a delivery already gets no second one.
    """
    if await log.newest_position(conn) >= cursor.through:
        return Step()
    through = await log.before_received(conn, cursor.moved_at - REWIND_MARGIN)
    logger.warning("webhook_outbox_rewound", cursor=cursor.through, to=through)
    await store.move_cursor(conn, through)
    return Step(more=True)


def _deliveries(event: Deliverable, webhooks: Sequence[Subscriber], now: datetime) -> list[NewDelivery]:
    event_type = delivered_as(event.type)
    seq = event.seq or 0
    if event_type is None:
        return []
    wanting = [webhook for webhook in webhooks if webhook.wants(event_type, seq)]
    payload = msgspec.json.encode(event) if wanting else b""
    return [_delivery(webhook.id, event, event_type, payload, now) for webhook in wanting]


def _delivery(webhook_id: UUID, event: Deliverable, event_type: str, payload: bytes, now: datetime) -> NewDelivery:
    id = uuid4()
    body = body_of(id, event_type, payload, now).decode()
    return NewDelivery(id, webhook_id, event_type, payload.decode(), body, event.id, event.seq)
