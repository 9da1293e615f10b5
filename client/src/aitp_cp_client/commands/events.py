"""aitp-cp events."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from aitp_cp_client.commands.connection import at_server, run
from aitp_cp_client.commands.exits import LEGEND
from aitp_cp_client.commands.files import save
from aitp_cp_client.commands.output import Columns, compact, iso, line, listing, note, some
from aitp_cp_client.commands.parameters import EventType, Json, Limit, Moment, Output, WithProof, as_options, group
from aitp_cp_client.wire.visible import escaped

if TYPE_CHECKING:
    from aitp_cp_client import ControlPlane, ControlPlaneError, Event, Reset

COLUMNS: "Columns[Event]" = {
    "position": lambda event: event.seq,
    "time": lambda event: event.ts,
    "type": lambda event: event.type,
    "sides": lambda event: _sides(event),
    "session": lambda event: event.session_id,
    "proof": lambda event: event.proof,
    "reported by": lambda event: event.reported_by,
}

events = group("The event log.")


@events.command("tail", epilog=LEGEND)
def tail(
    type: EventType = None,
    aid: Annotated[str | None, typer.Option(help="Sender or receiver.")] = None,
    run_id: Annotated[str | None, typer.Option("--run", help="One run.")] = None,
    proof: WithProof = None,
    after: Annotated[
        int | None, typer.Option(min=0, help="Start after this position in the log. Default: recent events.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document per line, for scripts.")] = False,
) -> None:
    """Print events as they happen, until Ctrl-C. Reconnects without gaps or duplicates."""

    async def work(control_plane: "ControlPlane") -> None:
        stream = control_plane.events.tail(after, _lost, type=type, aid=aid, run_id=run_id, proof=proof)
        async with aclosing(stream) as events:
            async for event in events:
                line(compact(_tagged(event)) if as_json else _sentence(event))

    run(work, until_interrupted=True)


@dataclass(frozen=True, slots=True)
class ListOptions:
    """Options of `events list`."""

    type: EventType = None
    aid: Annotated[str | None, typer.Option(help="Either side.")] = None
    proof: WithProof = None
    reported_by: Annotated[str | None, typer.Option(metavar="AID", help="Reported by this agent itself.")] = None
    limit: Limit = 100
    as_json: Json = False


@events.command("list", epilog=LEGEND)
@at_server
@as_options(ListOptions)
async def list_events(control_plane: "ControlPlane", options: ListOptions) -> None:
    """Events, newest first."""
    fetch = partial(
        control_plane.events.history,
        type=options.type,
        aid=options.aid,
        proof=options.proof,
        reported_by=options.reported_by,
    )
    listing("events", await some(fetch, options.limit), COLUMNS, as_json=options.as_json)


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Options of `events export`."""

    type: EventType = None
    aid: Annotated[str | None, typer.Option(help="Sender or receiver.")] = None
    session: Annotated[str | None, typer.Option(help="One session.")] = None
    run: Annotated[str | None, typer.Option(help="One run.")] = None
    since: Annotated[datetime | None, Moment] = None
    until: Annotated[datetime | None, Moment] = None
    after: Annotated[int, typer.Option(min=0, help="Start after this position in the log.")] = 0
    output: Output = None


@events.command("export", epilog=LEGEND)
@at_server
@as_options(ExportOptions)
async def export(control_plane: "ControlPlane", options: ExportOptions) -> None:
    """Export the event log in order, one JSON document per line."""
    await save(_lines(control_plane, options), options.output)


async def _lines(control_plane: "ControlPlane", options: ExportOptions) -> AsyncGenerator[bytes, None]:
    log = control_plane.events.log(
        options.after,
        type=options.type,
        aid=options.aid,
        session_id=options.session,
        run_id=options.run,
        since=options.since,
        until=options.until,
    )
    async with aclosing(log) as events:
        async for event in events:
            yield compact(event).encode() + b"\n"


def _lost(error: "ControlPlaneError | None", wait_secs: float) -> None:
    reason = "the server ended the stream" if error is None else str(error)
    note(f"{reason}; reconnecting in {wait_secs:.0f} s")


def _tagged(event: "Event | Reset") -> object:
    """Wrap a reset, so that a script can tell it from an event."""
    from aitp_cp_client import Reset

    return {"reset": event} if isinstance(event, Reset) else event


def _sentence(event: "Event | Reset") -> str:
    from aitp_cp_client import Reset

    if isinstance(event, Reset):
        reason = escaped(event.reason)
        return f"-- {reason}: events are missing here; the oldest available position is {event.oldest} --"
    details = {
        "session": event.session_id,
        "run": event.run_id,
        "grants": ",".join(map(str, event.grants)),
        "by": event.reported_by,
    }
    more = " ".join(f"{name}={value}" for name, value in details.items() if value)
    position = "" if event.seq is None else event.seq
    return escaped(f"{position:>8}  {iso(event.ts)}  {event.type:<20}  {_sides(event)}  {more}").rstrip()


def _sides(event: "Event") -> str:
    return " → ".join(side for side in (event.aid_a, event.aid_b) if side)
