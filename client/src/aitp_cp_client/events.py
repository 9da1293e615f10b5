"""The log: reporting to it, reading it, following it."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, TypedDict, Unpack
from uuid import UUID, uuid4

import msgspec

from aitp_cp_client.paging import Rows
from aitp_cp_client.tail import Lost, Tail, quietly
from aitp_cp_client.transport import Call, Transport, decoded

HISTORY = "/api/events/history"
PAGE = 500


class Event(msgspec.Struct, frozen=True, rename="camel"):
    """An event of the log; `seq` is its place there, None only while an adopted database is being numbered."""

    id: UUID
    type: str
    ts: datetime
    aid_a: str | None
    aid_b: str | None
    session_id: str | None
    run_id: str | None
    grants: list[Any]
    payload: Any
    source: str | None
    seq: int | None


class Reset(msgspec.Struct, frozen=True):
    """What follows is not what came next: events are gone, or the cursor was of another log (docs/events.md)."""

    reason: str
    oldest: int


class Problem(msgspec.Struct, frozen=True):
    """Why an item of a batch was dropped."""

    index: int
    field: str
    reason: str


class Ingested(msgspec.Struct, frozen=True):
    """`ingested` is `inserted` and `duplicates` together; `errors` shows the first dropped items."""

    ingested: int
    inserted: int
    duplicates: int
    dropped: int
    errors: list[Problem]


class StreamFilter(TypedDict, total=False):
    """`aid` is either side."""

    type: str | None
    aid: str | None
    run_id: str | None


class EventFilter(StreamFilter, total=False):
    """`since` and `until` are inclusive."""

    session_id: str | None
    since: datetime | None
    until: datetime | None


class _Page(msgspec.Struct, rename="camel"):
    events: list[Event]
    next_after: int | None = None
    next_before: str | None = None


class Events:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def report(self, batch: Sequence[Mapping[str, Any]], idempotency_key: str | None = None) -> Ingested:
        """Store up to 500 events, all or none, in the form of docs/events.md.

        Sent again when no answer comes. An event with an `id` or a `ts` is the same one when it comes again; where one
        has neither, the batch is sent under a key.
        """
        if idempotency_key is None and not all(event.get("id") or _has_time(event) for event in batch):
            idempotency_key = str(uuid4())
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        call = Call(method="POST", path="/api/events", headers=headers, body=msgspec.json.encode(batch))
        return (await self._transport.send(call)).read(Ingested)

    async def history(
        self, limit: int = 100, offset: int = 0, before: str | None = None, **wanted: Unpack[EventFilter]
    ) -> Rows[Event]:
        """At most 1000 events, newest first by their own time."""
        params = {**_shown(wanted), "limit": limit, "offset": offset, "before": before}
        page = await self._transport.ask(_Page, HISTORY, params)
        return Rows(page.events, page.next_before)

    async def log(self, after: int = 0, **wanted: Unpack[EventFilter]) -> AsyncGenerator[Event, None]:
        """Every event after a place in the log, in its order, up to its end; go on later after the last `seq`."""
        while True:
            params = {**_shown(wanted), "order": "asc", "after": after, "limit": PAGE}
            page = await self._transport.ask(_Page, HISTORY, params)
            for event in page.events:
                yield event
            if len(page.events) < PAGE or page.next_after is None:
                return
            after = page.next_after

    async def tail(
        self, after: int | None = None, lost: Lost = quietly, **wanted: Unpack[StreamFilter]
    ) -> AsyncGenerator[Event | Reset, None]:
        """Events as they happen, for ever: after a place in the log, or else from the newest ones in memory on.

        A connection that breaks, also with the server, is made again and goes on after the last event: no gap, no
        duplicate. `lost` is told each time why, and how many seconds pass before the next attempt. Raises
        `ControlPlaneError` when the first connection fails, or the server refuses.
        """
        last_id = None if after is None else str(after)
        origin = await self._newest_place() if after is None else None
        follower = Tail(self._transport, wanted, lost, last_id=last_id, origin=origin)
        async with aclosing(follower.frames()) as frames:
            async for frame in frames:
                if frame.event == "":
                    yield decoded(frame.data, Event)
                elif frame.event == "reset":
                    reset = decoded(frame.data, Reset)
                    follower.start_over(reset.oldest if reset.reason == "cursor_expired" else None)
                    yield reset

    async def _newest_place(self) -> str | None:
        """A place in the log that everything still to come lies after."""
        events = await self.history(limit=1)
        if not events:
            return "0"
        return None if events[0].seq is None else str(events[0].seq)


def _has_time(event: Mapping[str, Any]) -> bool:
    return event.get("ts") not in (None, "")


def _shown(wanted: EventFilter) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in wanted.items()}
