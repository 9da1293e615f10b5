"""Public reads of the registry, which a crowd is answered from memory for at most a second.

Forgotten at once when this process commits anything, and by the tail when any replica changed the registry.
"""

import time
from collections.abc import Sequence

from aitp_cp.events.model import Event
from aitp_cp.registry import service
from aitp_cp.registry.model import ListFilter, Status
from aitp_cp.runtime import Runtime
from aitp_cp.web.memo import CROWD, Memo
from aitp_cp.web.query import Query
from aitp_cp.web.ready import Ready
from aitp_cp.web.responses import encode

KEPT_SECS = 1.0
MOST_QUESTIONS = 1000


class Discovery(Memo[Ready]):
    """Answers by question."""

    def __init__(self, rt: Runtime) -> None:
        super().__init__(KEPT_SECS, MOST_QUESTIONS, time.monotonic, lambda: rt.db.commits, CROWD)

    def on_events(self, events: Sequence[Event]) -> None:
        """Called by the tail: the registry changed, here or on another replica."""
        if any(event.type.startswith("agent.") for event in events):
            self.drop()


async def list_answer(rt: Runtime, asked: Query) -> Ready:
    """A page of agents as JSON."""
    wanted = ListFilter(
        status=asked.text("status") or Status.ACTIVE,
        capability=asked.text("capability"),
        aid=asked.aid("aid"),
        display_name=asked.text("display_name"),
        namespace=asked.text("namespace"),
        include_manifest=asked.flag("include_manifest"),
    )
    async with rt.db.connection() as conn:
        page = await service.list_agents(conn, wanted, rt.clock(), asked.limit(200, 1000), asked.offset())
    return Ready(encode(page))


async def agent_answer(rt: Runtime, aid: str) -> Ready:
    """One agent as JSON; raises `NotFound`."""
    async with rt.db.connection() as conn:
        agent = await service.get_agent(conn, aid, rt.clock())
    cached = {"Cache-Control": "public, max-age=30"} if agent.status == Status.ACTIVE else None
    return Ready(encode(agent), cached)


async def manifest_answer(rt: Runtime, aid: str) -> Ready:
    """The manifest exactly as registered; raises `NotFound`."""
    async with rt.db.connection() as conn:
        text, status = await service.get_manifest(conn, aid, rt.clock())
    return Ready(text.encode(), {"Cache-Control": "max-age=60", "X-Aitp-Agent-Status": status})
