"""Handshakes: writing what reports say, and reading it (contract, sections 9 and 10)."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime

from aitp_cp.db import Connection
from aitp_cp.errors import existing
from aitp_cp.events.projection import Claim, Effect, Projection, StoredParties, Thing
from aitp_cp.protocol.reports import Report
from aitp_cp.protocol.vocabulary import Target, types_of
from aitp_cp.sessions import store
from aitp_cp.sessions.model import SessionView
from aitp_cp.sessions.projection import changes_from, reported

SESSION = "session"


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
        yield Claim((SESSION, change.session_id), frozenset(aid for aid in (change.aid_a, change.aid_b) if aid))


async def stored_parties(conn: Connection, things: Collection[Thing]) -> Mapping[Thing, StoredParties]:
    """Return the sides of those of the sessions that are known."""
    sides = await store.sides(conn, [str(key) for kind, key in things if kind == SESSION])
    return {(SESSION, session_id): parties for session_id, parties in sides.items()}


PROJECTION = Projection(types_of(Target.SESSIONS), project, claims, stored_parties)


async def get_session(conn: Connection, session_id: str) -> SessionView:
    """Raises `NotFound`."""
    return existing(await store.find(conn, session_id), "no such session")
