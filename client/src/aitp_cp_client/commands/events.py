"""aitp-cp events."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Unpack

from aitp_cp_client import ControlPlane, ControlPlaneError, Event, Reset
from aitp_cp_client.commands.connection import run
from aitp_cp_client.commands.files import save
from aitp_cp_client.commands.output import Columns, compact, line, listing, note, plain, some
from aitp_cp_client.events import EventFilter, StreamFilter
from aitp_cp_client.wire.times import iso

COLUMNS: Columns[Event] = {
    "position": lambda event: event.seq,
    "time": lambda event: event.ts,
    "type": lambda event: event.type,
    "sides": lambda event: _sides(event),
    "session": lambda event: event.session_id,
    "proof": lambda event: event.proof,
    "reported by": lambda event: event.reported_by,
}


def list_events(limit: int, *, as_json: bool, **filters: Unpack[EventFilter]) -> None:
    async def work(control_plane: ControlPlane) -> None:
        rows = await some(partial(control_plane.events.history, **filters), limit)
        listing("events", rows, COLUMNS, as_json=as_json)

    run(work)


def tail(after: int | None, *, as_json: bool, **filters: Unpack[StreamFilter]) -> None:
    async def work(control_plane: ControlPlane) -> None:
        async with aclosing(control_plane.events.tail(after, _lost, **filters)) as events:
            async for event in events:
                line(compact(_tagged(event)) if as_json else _sentence(event))

    run(work, until_interrupted=True)


def export(after: int, output: Path | None, **filters: Unpack[EventFilter]) -> None:
    async def lines(control_plane: ControlPlane) -> AsyncGenerator[bytes, None]:
        async with aclosing(control_plane.events.log(after, **filters)) as events:
            async for event in events:
                yield compact(event).encode() + b"\n"

    run(lambda control_plane: save(lines(control_plane), output))


def _lost(error: ControlPlaneError | None, wait_secs: float) -> None:
    reason = "the server ended the stream" if error is None else str(error)
    note(f"{reason}; reconnecting in {wait_secs:.0f} s")


def _tagged(event: Event | Reset) -> object:
    """Wrap a reset, so that a script can tell it from an event."""
    return {"reset": event} if isinstance(event, Reset) else event


def _sentence(event: Event | Reset) -> str:
    if isinstance(event, Reset):
        return f"-- {plain(event.reason)}: events are missing here; the oldest available position is {event.oldest} --"
    details = {
        "session": event.session_id,
        "run": event.run_id,
        "grants": ",".join(map(str, event.grants)),
        "by": event.reported_by,
    }
    more = " ".join(f"{name}={value}" for name, value in details.items() if value)
    position = "" if event.seq is None else event.seq
    return plain(f"{position:>8}  {iso(event.ts)}  {event.type:<20}  {_sides(event)}  {more}").rstrip()


def _sides(event: Event) -> str:
    return " → ".join(side for side in (event.aid_a, event.aid_b) if side)
