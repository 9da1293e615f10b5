"""Public reads of the registry, which a crowd is answered from memory for at most a second.

Forgotten at once when this process commits anything, and by the tail when any replica changed the registry.
"""

import math
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from aitp_cp.events.model import Event
from aitp_cp.registry import service
from aitp_cp.registry.model import ORDER, ListFilter, Status
from aitp_cp.runtime import Runtime
from aitp_cp.web.headers import max_age
from aitp_cp.web.memo import CROWD, Memo
from aitp_cp.web.query import decode_query
from aitp_cp.web.ready import Ready
from aitp_cp.web.responses import encode

KEPT_SECS = 1.0
MOST_QUESTIONS = 1000
MAX_BEHIND_SECS = 2.0  # twice the interval at which the tail asks for news without being told of any


class Discovery(Memo[Ready]):
    """Answers by question, used while the log is known to hold no change of another replica.

    `behind` says how many seconds ago the log was last read to its end.
    """

    def __init__(self, rt: Runtime, behind: Callable[[], float]) -> None:
        super().__init__(KEPT_SECS, MOST_QUESTIONS, time.monotonic, lambda: rt.db.commits, CROWD)
        self._behind = behind
        self._gauge = rt.metrics.answer_cache_bytes.labels(cache="registry")

    def size(self, answer: Ready) -> int:
        return len(answer.body) + len(answer.head)

    def held(self, size: int) -> None:
        self._gauge.set(size)

    def confirmed(self) -> bool:
        return self._behind() <= MAX_BEHIND_SECS

    def on_events(self, events: Sequence[Event]) -> None:
        """Called by the tail: the registry changed, here or on another replica."""
        if any(event.type.startswith("agent.") for event in events):
            self.drop()

    def on_reset(self) -> None:
        """Called by the tail: the log, and with it the registry, was replaced."""
        self.drop()


async def list_answer(rt: Runtime, query_string: bytes) -> Ready:
    """Return a page of agents as JSON."""
    query = decode_query(query_string, ListFilter)
    window = query.window(ORDER)
    async with rt.db.connection() as conn:
        page = await service.list_agents(conn, query, rt.clock(), window)
    return Ready(encode(page))


async def agent_answer(rt: Runtime, aid: str) -> Ready:
    """One agent as JSON; raises `NotFound`."""
    async with rt.db.connection() as conn:
        agent, expires_at = await service.get_expiring(conn, aid, rt.clock())
    if agent.status != Status.ACTIVE:
        return Ready(encode(agent))
    cached = max_age(30, _active_secs(rt, expires_at))
    return Ready(encode(agent), {"Cache-Control": cached if cached == "no-store" else f"public, {cached}"})


async def manifest_answer(rt: Runtime, aid: str) -> Ready:
    """The manifest exactly as registered; raises `NotFound`."""
    async with rt.db.connection() as conn:
        found = await service.get_manifest(conn, aid, rt.clock())
    cached = max_age(60, _active_secs(rt, found.expires_at) if found.status == Status.ACTIVE else math.inf)
    return Ready(found.text.encode(), {"Cache-Control": cached, "X-Aitp-Agent-Status": found.status})


def _active_secs(rt: Runtime, expires_at: datetime | None) -> float:
    """How long the answer stays true, if it is given once more after it has been remembered for as long as may be."""
    return math.inf if expires_at is None else (expires_at - rt.clock()).total_seconds() - KEPT_SECS
