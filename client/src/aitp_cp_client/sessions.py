"""Handshake sessions."""

from collections.abc import AsyncGenerator, AsyncIterator
from datetime import datetime
from functools import partial
from typing import Any, TypedDict, Unpack

import msgspec

from aitp_cp_client.agents import MEDIA, Format
from aitp_cp_client.events import Event
from aitp_cp_client.paging import Rows, rows
from aitp_cp_client.transport import Call, Transport, segment
from aitp_cp_client.wire.times import written

SESSIONS = "/api/sessions"


class Session(msgspec.Struct, frozen=True, rename="camel"):
    session_id: str
    aid_a: str | None
    aid_b: str | None
    status: str
    grants: list[Any]
    run_id: str | None
    boundary: str | None
    error: str | None
    started_at: datetime | None
    completed_at: datetime | None
    created_at: datetime
    updated_at: datetime
    conflict: bool = False  # reports contradict each other


class SessionDetail(msgspec.Struct, frozen=True):
    """A session with its events, oldest first."""

    session: Session
    events: list[Event]


class SessionFilter(TypedDict, total=False):
    """`aid` matches either side; `since` and `until` are inclusive; `boundary` and `error` are exact."""

    status: str | None
    run_id: str | None
    aid: str | None
    since: datetime | None
    until: datetime | None
    boundary: str | None
    error: str | None


class _Replay(msgspec.Struct):
    events: list[Event]


class Sessions:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def page(
        self, limit: int = 200, offset: int = 0, before: str | None = None, **filters: Unpack[SessionFilter]
    ) -> Rows[Session]:
        """Return at most 1000 sessions, newest first."""
        params = {**written(filters), "limit": limit, "offset": offset, "before": before}
        return await self._transport.page(Session, "sessions", SESSIONS, params)

    def each(self, **filters: Unpack[SessionFilter]) -> AsyncIterator[Session]:
        """Iterate over all sessions, page by page."""
        return rows(partial(self.page, **filters))

    async def get(self, session_id: str) -> SessionDetail:
        return await self._transport.ask(SessionDetail, f"{SESSIONS}/{segment(session_id)}")

    def export(self, session_id: str, format: Format = "json") -> AsyncGenerator[bytes, None]:
        """Export the session with its tokens and events."""
        path = f"{SESSIONS}/{segment(session_id)}/export"
        return self._transport.chunks(Call(path=path, params={"format": format}, media=MEDIA[format]))

    async def replay(
        self, session_id: str, *, since: datetime | None = None, until: datetime | None = None, limit: int = 1000
    ) -> list[Event]:
        """Return at most 10,000 events of a session, oldest first; none for an unknown session."""
        params = {**written({"since": since, "until": until}), "limit": limit}
        return (await self._transport.ask(_Replay, f"{SESSIONS}/{segment(session_id)}/replay", params)).events
