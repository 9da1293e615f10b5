"""One group of reports into the database (contract, section 9)."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from aitp_cp.db import Connection
from aitp_cp.events import service as log
from aitp_cp.events.model import NewEvent
from aitp_cp.protocol.reports import Report
from aitp_cp.registry import presence
from aitp_cp.sessions import service as sessions
from aitp_cp.tcts import service as tcts


async def store_group(conn: Connection, reports: Sequence[Report], now: datetime) -> set[UUID]:
    """Store what is new of `reports` and everything that follows from it; the ids that were new.

    A constant number of statements, whatever the size of the group. Lock order: the graph of tokens, rows in key
    order (tokens, delegations, sessions, agents), the log last.
    """
    known = await log.known(conn, [report.id for report in reports])
    # The log keeps the first event of an id, so the projections must not see another one under the same id.
    fresh = list({report.id: report for report in reversed(reports) if report.id not in known}.values())[::-1]
    if not fresh:
        return set()
    await tcts.project(conn, fresh, now)
    sides = await sessions.project(conn, fresh, now)
    await presence.seen(conn, sides | {aid for report in fresh for aid in (report.aid_a, report.aid_b) if aid}, now)
    new = await log.append(conn, [_event(report) for report in fresh], now)
    return {event.id for event in new}


def _event(report: Report) -> NewEvent:
    return NewEvent(
        id=report.id,
        type=report.type,
        ts=report.ts,
        aid_a=report.aid_a,
        aid_b=report.aid_b,
        session_id=report.session_id,
        run_id=report.run_id,
        grants=report.grants,
        payload=msgspec.json.encode(report.payload).decode(),
        source=report.source,
    )
