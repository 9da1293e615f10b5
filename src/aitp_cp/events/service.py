"""The only door into the log (contract, section 9, "The log")."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from aitp_cp.db import Connection
from aitp_cp.db.keyset import Window
from aitp_cp.db.locks import ADOPTION, LOG, lock, try_lock
from aitp_cp.db.schema import adopt_unsequenced
from aitp_cp.events import invocations as counted
from aitp_cp.events import reader, store
from aitp_cp.events.model import (
    Event,
    HistoryFilter,
    HistoryPage,
    Invocations,
    LogPage,
    LogSpan,
    NewEvent,
    appended,
)

# Events looked through in one go for those of some types: an index scan of a few milliseconds.
SCAN_ROWS = 5000
MAX_SEQ = 2**63 - 1


async def append(conn: Connection, events: Sequence[NewEvent], now: datetime) -> list[Event]:
    """Append what is not in the log yet; returns only what was new, in order.

    Must be the last writes of the caller's transaction. Lock order everywhere: rows first, in key order;
    the log lock last; after it only inserts. Anything else deadlocks under load.
    """
    if not events:
        return []
    await lock(conn, LOG)
    places = await store.insert_missing(conn, events, now)
    return [appended(event, places.pop(event.id)) for event in events if event.id in places]


async def known(conn: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Those of `ids` that the log holds already."""
    return await store.find_known(conn, ids)


async def newest(conn: Connection, wanted: HistoryFilter, window: Window) -> HistoryPage:
    """One page, newest first by `ts`, which counts as 5 minutes after the receipt at most; `count` is its length."""
    return await store.newest(conn, wanted, window)


async def after(conn: Connection, wanted: HistoryFilter, seq: int, limit: int) -> HistoryPage:
    """One page in log order; `next_after` is the cursor of the next one, unmoved when there is nothing new."""
    events = await store.after(conn, wanted, seq, limit)
    last = events[-1].seq if events else None
    return HistoryPage(events, len(events), seq if last is None else last)


async def next_of_types(conn: Connection, types: Sequence[str], after: int, rows: int, size: int) -> LogPage:
    """The next events of some types that were appended here, at most `rows` with payloads of about `size` bytes.

    `last` is how far the log was looked through. What an older control plane wrote is left out.
    """
    reach = await store.reach(conn, after, SCAN_ROWS)
    if reach.through is None:
        return LogPage([], after, False, 0)
    wanted = HistoryFilter(types=tuple(types), adopted=False)
    page = await reader.read_on(conn, wanted, LogSpan(after, reach.through, rows, size))
    if page.more:
        return page
    return msgspec.structs.replace(page, last=reach.through, more=reach.newest > reach.through)


async def newest_position(conn: Connection) -> int:
    """The newest position in the log, 0 while it is empty."""
    return await store.newest_position(conn)


async def before_received(conn: Connection, since: datetime) -> int:
    """The position before the first of the newest events that was received since a time; else the newest position."""
    return await store.before_received(conn, since, SCAN_ROWS)


async def forget(conn: Connection, before: datetime, limit: int, through: int = MAX_SEQ) -> int:
    """Delete at most `limit` events received before a time, in log order; how many. For the retention sweep.

    None beyond the position `through`, up to which those have read that must see every event. Readers whose cursor
    lies below what is deleted are told so (`event: reset`).
    """
    await counted.hold(conn)
    return await store.delete_oldest(conn, before, limit, through)


async def adopt(conn: Connection, limit: int) -> int:
    """Give a position to at most `limit` events that an older control plane wrote; how many.

    Takes the log lock only when there are any and no other replica is at it.
    """
    if not await store.has_unsequenced(conn) or not await try_lock(conn, ADOPTION):
        return 0
    adopted = await adopt_unsequenced(conn, limit)
    await store.ring(conn, adopted)
    return adopted


async def count_invocations(conn: Connection, limit: int) -> int:
    """Count the invocations among the next `limit` events at most; how many events there were.

    Opens a transaction of its own, and only when there are any.
    """
    if await counted.behind(conn) <= 0:
        return 0
    async with conn.transaction():
        return await counted.count_next(conn, limit)


async def invocations(conn: Connection, since: datetime, top: int) -> Invocations:
    """All reported invocations with `ts` at or after `since`, and the `top` most used capabilities that are named."""
    return await counted.since(conn, since, top)


async def of_session(
    conn: Connection, wanted: HistoryFilter, after: store.EventPlace | None, limit: int
) -> store.EventPage:
    """The next events of `wanted.session_id` between `since` and `until`, oldest first, and where to go on."""
    return await store.of_session(conn, wanted, after, limit)


async def of_aid(conn: Connection, aid: str, after: store.EventPlace | None, limit: int) -> store.EventPage:
    """The next events with this agent on either side, newest first, and where to go on."""
    return await store.of_aid(conn, aid, after, limit)
