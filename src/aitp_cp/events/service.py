"""The only door into the log (contract, section 9, "The log")."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from aitp_cp.db import Connection
from aitp_cp.db.locks import ADOPTION, LOG, lock, try_lock
from aitp_cp.db.numbering import number_unsequenced
from aitp_cp.events import store
from aitp_cp.events.history import of_aid, of_session
from aitp_cp.events.invocations import invocations
from aitp_cp.events.model import HistoryFilter, LogPage, LogSpan, NewEvent
from aitp_cp.events.store import before_received, find, forget, known, newest_position, received

__all__ = [
    "adopt",
    "append",
    "before_received",
    "find",
    "forget",
    "invocations",
    "known",
    "newest_position",
    "next_of_types",
    "of_aid",
    "of_session",
    "received",
]

SCAN_ROWS = 5000  # events read in one go to find those of some types: an index scan of a few milliseconds


async def append(conn: Connection, events: Sequence[NewEvent], now: datetime) -> dict[UUID, int]:
    """Append what is not in the log yet; returns the positions of what is new, by id.

    Must be the last writes of the caller's transaction. Lock order everywhere: rows first, in key order;
    the log lock last; after it only inserts. Anything else deadlocks under load.
    """
    if not events:
        return {}
    await lock(conn, LOG)
    return await store.insert_missing(conn, events, now)


async def next_of_types(conn: Connection, types: Sequence[str], after: int, rows: int, size: int) -> LogPage:
    """Return the next events of some types that were appended here, at most `rows` and payloads of about `size` bytes.

    `last` is the position up to which the log was read. What an older control plane wrote is left out.
    """
    reach = await store.reach(conn, after, SCAN_ROWS)
    if reach.through is None:
        return LogPage([], after, False, 0)
    page = await store.read_log(
        conn, HistoryFilter(types=tuple(types), adopted=False), LogSpan(after, reach.through, rows, size)
    )
    if page.more:
        return page
    return msgspec.structs.replace(page, last=reach.through, more=reach.newest > reach.through)


async def adopt(conn: Connection, limit: int) -> int:
    """Give a position to at most `limit` events that an older control plane wrote; returns how many.

    Takes the log lock only when there are any and no other replica does the same.
    """
    if not await store.has_unsequenced(conn) or not await try_lock(conn, ADOPTION):
        return 0
    adopted = await number_unsequenced(conn, limit, adopt=True)
    await store.ring(conn, adopted)
    return adopted
