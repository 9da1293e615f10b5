"""Bounded counts of the log, for gauges and the sweep."""

from datetime import datetime

from aitp_cp.db import Connection
from aitp_cp.db.distinct import distinct
from aitp_cp.events.model import MAX_SEQ, EventTypes, TypeCount
from aitp_cp.protocol.vocabulary import VOCABULARY

COUNT_BY_TYPE = """
SELECT type, count(*)
FROM (SELECT type FROM audit_events WHERE seq <= $1 ORDER BY seq DESC LIMIT $2) AS newest
GROUP BY type
"""

# Of the first rows of the log, which the next sweep looks at.
COUNT_DUE = """
SELECT count(*) FROM (SELECT created_at FROM audit_events ORDER BY seq LIMIT $2) AS first WHERE created_at < $1
"""

KNOWN_TYPES = distinct("audit_events", "type")

MAX_TYPES = 500  # of the log: reporters choose types
COUNTED = 50_000  # events; 30 ms


async def known_types(conn: Connection) -> list[str]:
    """Return the types of events in the log, at most `MAX_TYPES`."""
    return [row["type"] for row in await conn.fetch(KNOWN_TYPES, MAX_TYPES)]


async def type_counts(conn: Connection) -> EventTypes:
    """Count the newest `COUNTED` events by type; types without one among them follow with 0."""
    counts = await count_by_type(conn, MAX_SEQ, COUNTED)
    totals = dict.fromkeys((*VOCABULARY, *await known_types(conn)), 0) | counts
    ordered = sorted((TypeCount(*entry) for entry in totals.items()), key=lambda entry: (-entry.count, entry.type))
    return EventTypes(ordered, sum(counts.values()))


async def count_by_type(conn: Connection, through: int, limit: int) -> dict[str, int]:
    """Count the newest `limit` events up to the position `through` by type."""
    return {row["type"]: row["count"] for row in await conn.fetch(COUNT_BY_TYPE, through, limit)}


async def count_due(conn: Connection, before: datetime, limit: int) -> int:
    """Return how many events the next sweep would delete, at most `limit`."""
    return int(await conn.fetchval(COUNT_DUE, before, limit))
