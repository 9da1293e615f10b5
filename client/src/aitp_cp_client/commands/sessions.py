"""aitp-cp sessions."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aitp_cp_client.commands.connection import at_server
from aitp_cp_client.commands.exits import LEGEND
from aitp_cp_client.commands.output import Columns, document, listing, record, some, table
from aitp_cp_client.commands.parameters import Json, Limit, Moment, as_options, group
from aitp_cp_client.commands.tokens import SHARED_KEY, TCTS, show_conflicts

if TYPE_CHECKING:
    from aitp_cp_client import ControlPlane, Event, Session

SESSIONS: "Columns[Session]" = {
    "session": lambda session: session.session_id,
    "status": lambda session: session.status,
    "initiator": lambda session: session.aid_a,
    "responder": lambda session: session.aid_b,
    "boundary": lambda session: session.boundary,
    "error": lambda session: session.error,
    "started": lambda session: session.started_at,
    "completed": lambda session: session.completed_at,
}
MORE: "Columns[Session]" = {
    "grants": lambda session: session.grants,
    "run": lambda session: session.run_id,
    "conflict": lambda session: session.conflict,
}
EVENTS: "Columns[Event]" = {
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

sessions = group("Handshakes.")


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """Options of `sessions list`."""

    status: Annotated[
        Literal["started", "failed", "complete"] | None, typer.Option(help="Only sessions with this status.")
    ] = None
    aid: Annotated[str | None, typer.Option(help="Either side.")] = None
    run: Annotated[str | None, typer.Option(help="One run.")] = None
    boundary: Annotated[str | None, typer.Option(help="Only this exact boundary.")] = None
    error: Annotated[str | None, typer.Option(help="Only handshakes that failed with this exact error.")] = None
    since: Annotated[datetime | None, Moment] = None
    until: Annotated[datetime | None, Moment] = None
    limit: Limit = 100
    as_json: Json = False


@sessions.command("list", epilog=LEGEND)
@at_server
@as_options(SessionOptions)
async def list_sessions(control_plane: "ControlPlane", options: SessionOptions) -> None:
    """List handshakes, newest first."""
    fetch = partial(
        control_plane.sessions.page,
        status=options.status,
        aid=options.aid,
        run_id=options.run,
        boundary=options.boundary,
        error=options.error,
        since=options.since,
        until=options.until,
    )
    listing("sessions", await some(fetch, options.limit), SESSIONS, as_json=options.as_json)


@sessions.command("show", epilog=LEGEND)
@at_server
async def show(
    control_plane: "ControlPlane",
    session: Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")],
    as_json: Json = False,
) -> None:
    """Show a handshake with its events, oldest first."""
    detail = await control_plane.sessions.get(session)
    if as_json:
        document(detail)
        return
    record(detail.session, {**SESSIONS, **MORE})
    table(detail.events, EVENTS)
    tcts, _ = await some(partial(control_plane.tcts.page, session_id=session), MAX_TOKENS)
    if tcts:
        table(tcts, TCTS)
        show_conflicts(tcts)
