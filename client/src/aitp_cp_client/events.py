"""The event log: report, read and follow events."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Literal, TypedDict, Unpack
from uuid import UUID, uuid4

import msgspec

from aitp_cp_client.paging import Rows
from aitp_cp_client.tail import Lost, Tail, quietly
from aitp_cp_client.transport import Call, Transport, decoded
from aitp_cp_client.wire.times import written

Proof = Literal["shared-key", "agent-token", "signature"]  # how the reporter of an event is known

HISTORY = "/api/events/history"
PAGE = 500


class Event(msgspec.Struct, frozen=True, rename="camel"):
    """An event. `seq` is its position in the log, None only while an adopted database is being numbered."""

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
    reported_by: str | None = None  # the agent that reported it, where one proved to
    proof: Proof | None = None


class Reset(msgspec.Struct, frozen=True):
    """A gap in the stream: events were deleted, or the cursor belongs to another log (docs/events.md)."""

    reason: str
    oldest: int


class Problem(msgspec.Struct, frozen=True):
    """Why an item of a batch was dropped."""

    index: int
    field: str
    reason: str


class Ingested(msgspec.Struct, frozen=True):
    """`ingested` is `inserted` plus `duplicates`; `errors` holds the first dropped items."""

    ingested: int
    inserted: int
    duplicates: int
    dropped: int
    errors: list[Problem]


class StreamFilter(TypedDict, total=False):
    """`aid` matches either side."""

    type: str | None
    aid: str | None
    run_id: str | None
    reported_by: str | None
    proof: Proof | None


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
        """Report up to 500 events (docs/events.md), stored all or none.

        Retried without a response. Events with an `id` or a `ts` are recognised when repeated; if an event has
        neither, the batch is sent under an idempotency key.
        """
        if idempotency_key is None and not all(event.get("id") or _has_time(event) for event in batch):
            idempotency_key = str(uuid4())
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        call = Call(method="POST", path="/api/events", headers=headers, body=msgspec.json.encode(batch))
        return (await self._transport.send(call)).read(Ingested)

    async def history(
        self, limit: int = 100, offset: int = 0, before: str | None = None, **filters: Unpack[EventFilter]
    ) -> Rows[Event]:
        """Return at most 1000 events, newest `ts` first."""
        params = {**written(filters), "limit": limit, "offset": offset, "before": before}
        page = await self._transport.ask(_Page, HISTORY, params)
        return Rows(page.events, page.next_before)

    async def log(self, after: int = 0, **filters: Unpack[EventFilter]) -> AsyncGenerator[Event, None]:
        """Iterate over the log after position `after`, in log order, to its end."""
        while True:
            params = {**written(filters), "order": "asc", "after": after, "limit": PAGE}
            page = await self._transport.ask(_Page, HISTORY, params)
            for event in page.events:
                yield event
            if len(page.events) < PAGE or page.next_after is None:
                return
            after = page.next_after

    async def tail(
        self, after: int | None = None, lost: Lost = quietly, **filters: Unpack[StreamFilter]
    ) -> AsyncGenerator[Event | Reset, None]:
        """Iterate over events as they happen: after position `after`, or from the newest in the server's memory.

        After a lost connection it reconnects and continues after the last event, without gaps or duplicates. `lost` is
        called with the error and the seconds until the next attempt. Raises `ControlPlaneError` when the first
        connection fails, or the server refuses.
        """
        last_id = None if after is None else str(after)
        origin = await self._newest_position() if after is None else None
        follower = Tail(self._transport, filters, lost, last_id=last_id, origin=origin)
        async with aclosing(follower.frames()) as frames:
            async for frame in frames:
                if frame.event == "":
                    yield decoded(frame.data, Event)
                elif frame.event == "reset":
                    reset = decoded(frame.data, Reset)
                    follower.start_over(reset.oldest if reset.reason == "cursor_expired" else None)
                    yield reset

    async def _newest_position(self) -> str | None:
        """Return the position of the newest event: all later events follow it."""
        events = await self.history(limit=1)
        if not events:
            return "0"
        return None if events[0].seq is None else str(events[0].seq)


def _has_time(event: Mapping[str, Any]) -> bool:
    return event.get("ts") not in (None, "")
