"""Handshakes: writing what reports say, and reading it (contract, sections 9 and 10)."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from aitp_cp.db import Connection
from aitp_cp.errors import existing
from aitp_cp.events.projection import Claim, Effect, Projection
from aitp_cp.protocol.reports import Report
from aitp_cp.protocol.vocabulary import Target, types_of
from aitp_cp.sessions import store
from aitp_cp.sessions.model import SessionView
from aitp_cp.sessions.projection import changes_from, reported


async def project(conn: Connection, reports: Sequence[Report], now: datetime) -> Effect:
    """Merge what `reports` say into the table, by the rules of `aitp_cp.tcts.callers`.

    The effect names the AIDs of both sides, which a report may name only in its token.
    """
    changes = changes_from(reports)
    await store.SESSIONS.merge(conn, changes, now)
    states = [report.state for reported in changes.values() for report in reported]
    return Effect(aids={aid for state in states for aid in (state.aid_a, state.aid_b) if aid})


def claims(report: Report, now: datetime) -> Iterator[Claim]:
    """Yield the session that a report would change."""
    change = reported(report)
    if change is not None:
        yield Claim((store.SESSION, change.session_id), frozenset(aid for aid in (change.aid_a, change.aid_b) if aid))


PROJECTION = Projection(types_of(Target.SESSIONS), project, claims, store.stored_parties)


async def get_session(conn: Connection, session_id: str) -> SessionView:
    """Raises `NotFound`."""
    return existing(await store.find(conn, session_id), "no such session")
