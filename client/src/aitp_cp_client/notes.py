"""What operators note about agents, and the search over everything."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from functools import partial
from typing import TypedDict, Unpack
from uuid import UUID

import msgspec

from aitp_cp_client.paging import Rows, rows
from aitp_cp_client.transport import Call, Transport, encode, segment


class AgentNotes(msgspec.Struct, frozen=True, rename="camel"):
    aid: str
    owner: str | None
    note: str | None
    labels: list[str]
    updated_by: str
    updated_at: datetime


class NotesFilter(TypedDict, total=False):
    aid: str | None
    owner: str | None
    label: str | None


class Hit(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One thing that a search found; an agent that only events name has no `name`."""

    kind: str
    id: str
    name: str | None
    status: str | None
    webhook_id: UUID | None = None


class _Found(msgspec.Struct):
    hits: list[Hit]


class Notes:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def page(
        self, limit: int = 100, offset: int = 0, before: str | None = None, **filters: Unpack[NotesFilter]
    ) -> Rows[AgentNotes]:
        """Return at most 1000 notes, the newest change first."""
        params = {**filters, "limit": limit, "offset": offset, "before": before}
        return await self._transport.page(AgentNotes, "notes", "/api/registry/notes", params)

    def each(self, **filters: Unpack[NotesFilter]) -> AsyncIterator[AgentNotes]:
        """Iterate over all notes, page by page."""
        return rows(partial(self.page, **filters))

    async def get(self, aid: str) -> AgentNotes:
        return await self._transport.ask(AgentNotes, _path(aid))

    async def put(
        self, aid: str, owner: str | None = None, note: str | None = None, labels: Sequence[str] = ()
    ) -> AgentNotes:
        """Replace everything that is noted about an agent, which need not be registered."""
        body = encode({"owner": owner, "note": note, "labels": list(labels)})
        return (await self._transport.send(Call(method="PUT", path=_path(aid), body=body))).read(AgentNotes)

    async def delete(self, aid: str) -> None:
        await self._transport.send(Call(method="DELETE", path=_path(aid), repeatable=False))


async def search(transport: Transport, q: str) -> list[Hit]:
    return (await transport.ask(_Found, "/api/search", {"q": q})).hits


def _path(aid: str) -> str:
    return f"/api/registry/agents/{segment(aid)}/notes"
