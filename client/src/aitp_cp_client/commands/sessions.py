"""aitp-cp sessions."""

from functools import partial
from typing import Unpack

from aitp_cp_client import ControlPlane, Event, Session
from aitp_cp_client.commands.connection import run
from aitp_cp_client.commands.output import Columns, document, fields, listing, some, table
from aitp_cp_client.commands.tokens import SHARED_KEY, TCTS, show_conflicts
from aitp_cp_client.sessions import SessionFilter

SESSIONS: Columns[Session] = {
    "session": lambda session: session.session_id,
    "status": lambda session: session.status,
    "initiator": lambda session: session.aid_a,
    "responder": lambda session: session.aid_b,
    "boundary": lambda session: session.boundary,
    "error": lambda session: session.error,
    "started": lambda session: session.started_at,
    "completed": lambda session: session.completed_at,
}
EVENTS: Columns[Event] = {
    "position": lambda event: event.seq,
    "time": lambda event: event.ts,
    "type": lambda event: event.type,
    "from": lambda event: event.aid_a,
    "to": lambda event: event.aid_b,
    "source": lambda event: event.source,
    "reported by": lambda event: event.reported_by or (SHARED_KEY if event.proof else None),
    "proof": lambda event: event.proof,
}
MAX_TOKENS = 100  # of one handshake: two, as a rule


def list_sessions(limit: int, *, as_json: bool, **filters: Unpack[SessionFilter]) -> None:
    async def work(control_plane: ControlPlane) -> None:
        page = await some(partial(control_plane.sessions.page, **filters), limit)
        listing("sessions", page, SESSIONS, as_json=as_json)

    run(work)


def show(session_id: str, *, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
        detail = await control_plane.sessions.get(session_id)
        if as_json:
            document(detail)
            return
        session = detail.session
        fields(
            {
                "session": session.session_id,
                "status": session.status,
                "initiator": session.aid_a,
                "responder": session.aid_b,
                "grants": session.grants,
                "run": session.run_id,
                "boundary": session.boundary,
                "error": session.error,
                "started": session.started_at,
                "completed": session.completed_at,
                "conflict": session.conflict,
            }
        )
        table(detail.events, EVENTS)
        tcts, _ = await some(partial(control_plane.tcts.page, session_id=session_id), MAX_TOKENS)
        if tcts:
            table(tcts, TCTS)
            show_conflicts(tcts)

    run(work)
