"""Reading the log in order, whatever its rows hold."""

import structlog

from aitp_cp.db import Connection, Database
from aitp_cp.events import store
from aitp_cp.events.model import Event, HistoryFilter, LogPage, LogSpan

log = structlog.get_logger("aitp_cp.events")

# What the driver raises for a value that Python has no form for, such as a time before the year 1.
UNREADABLE = (ValueError, OverflowError)

ROW_BY_ROW = 50


async def read(db: Database, wanted: HistoryFilter, span: LogSpan) -> LogPage:
    """One page; a row that cannot be read is left out and logged. Raises `DatabaseUnavailable`."""
    async with db.connection() as conn:
        return await read_on(conn, wanted, span)


async def read_on(conn: Connection, wanted: HistoryFilter, span: LogSpan) -> LogPage:
    """The same on a connection, which stays usable: only the driver refuses such a row."""
    try:
        return await store.read_log(conn, wanted, span)
    except UNREADABLE:
        return await _row_by_row(conn, wanted, span)


async def _row_by_row(conn: Connection, wanted: HistoryFilter, span: LogSpan) -> LogPage:
    events: list[Event] = []
    deleted_through = skipped = 0
    anchor = await store.id_at(conn, span.after)
    places = await store.places(conn, LogSpan(span.after, span.through, ROW_BY_ROW, span.size))
    for place in places:
        try:
            page = await store.read_log(conn, wanted, LogSpan(place - 1, place, 1, span.size))
        except UNREADABLE as failure:
            log.error("an event cannot be read and is left out", seq=place, reason=type(failure).__name__)
            skipped += 1
        else:
            events += page.events
            deleted_through = page.deleted_through
    last, more = (places[-1], len(places) == ROW_BY_ROW) if places else (span.after, False)
    return LogPage(events, last, more, deleted_through, skipped, anchor)
