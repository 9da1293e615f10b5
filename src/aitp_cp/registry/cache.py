"""The registry's public reads, kept in memory for a few seconds (contract, section 8).

A record and a manifest are forgotten when their agent changes, a list when an agent in it changes or one that offers
its capability registers: at once after changes made here, by the tail after those of other processes. While the tail
cannot confirm that it has read the log to its end, nothing is answered from memory.
"""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import msgspec

from aitp_cp.db import Connection
from aitp_cp.errors import existing
from aitp_cp.events.model import Event
from aitp_cp.registry import store
from aitp_cp.registry.model import ORDER, ListFilter, Status
from aitp_cp.registry.service import NO_AGENT
from aitp_cp.runtime import Runtime
from aitp_cp.web.memo import Memo
from aitp_cp.web.responses import Response, json_bytes, json_response, max_age

KEPT_SECS = 5.0  # how old `lastSeenAt` in a list may be: reports that pour in must not empty the cache
MAX_BEHIND_SECS = 2.0  # twice the interval at which the tail reads without being notified
MAX_LISTS = 1000  # all of them are looked through when an agent changes
RECORD_MAX_AGE_SECS, MANIFEST_MAX_AGE_SECS = 30, 60
STATUS_HEADER = "X-Aitp-Agent-Status"  # of record and manifest, so that a proxy need not read JSON


class CachedRead(msgspec.Struct, frozen=True):
    """A response, until when it is true at most, and for a list what it depends on.

    `aids` are the agents in the list; None when any agent counts, for a later page shifts with those before it.
    `unseen` are those of whom nobody had reported anything.
    """

    response: Response
    until: datetime | None
    capability: str | None = None
    aids: frozenset[str] | None = frozenset()
    unseen: frozenset[str] = frozenset()


class _Registered(msgspec.Struct, rename="camel"):
    offered_caps: list[str]


class RegistryCache(Memo[CachedRead]):
    """One per process; `behind` returns the seconds since the tail last read the log to its end."""

    def __init__(self, rt: Runtime, behind: Callable[[], float]) -> None:
        gauge = rt.metrics.answer_cache_bytes.labels(cache="registry")
        super().__init__(KEPT_SECS, rt.settings.registry_cache_mib * 2**20, gauge=gauge)
        self._rt = rt
        self._behind = behind
        self._lists: set[ListFilter] = set()

    def size(self, value: CachedRead) -> int:
        return len(value.response.body) + 100 * (len(value.aids or ()) + len(value.unseen))

    def usable(self, value: CachedRead) -> bool:
        return self._behind() <= MAX_BEHIND_SECS and (value.until is None or self._rt.clock() < value.until)

    async def agent(self, aid: str) -> Response:
        """Return one agent as JSON; raises `NotFound`."""
        return (await self.get(("agent", aid), lambda: _agent(self._rt, aid))).response

    async def manifest(self, aid: str) -> Response:
        """Return the manifest exactly as registered; raises `NotFound`."""
        return (await self.get(("manifest", aid), lambda: _manifest(self._rt, aid))).response

    async def page(self, filter: ListFilter) -> Response:
        """Return a page of agents as JSON."""
        if filter.status != Status.ACTIVE:
            return await self.read_page(filter)
        cached = self.find(filter)
        if cached is None:
            if len(self._lists) >= MAX_LISTS:
                self._forget_lists(lambda _: True)
            self._lists.add(filter)
            cached = await self.get(filter, lambda: _page(self._rt, filter))
        return cached.response

    async def read_page(self, filter: ListFilter) -> Response:
        """Return a page of agents as JSON, past the cache."""
        return (await _page(self._rt, filter)).response

    def changed(self, aid: str, joins: Collection[str | None] | None = ()) -> None:
        """Forget what a change of an agent makes untrue.

        It may join lists of the capabilities `joins`, where None stands for lists of all agents, or any list at all.
        """
        self.forget(("agent", aid), ("manifest", aid))
        self._forget_lists(lambda page: page is None or _depends(page, aid, joins))

    @asynccontextmanager
    async def changing(self, aid: str, joins: Collection[str | None] | None = ()) -> AsyncIterator[Connection]:
        """Run a transaction that changes an agent; after a failure, too, forget what it may have made untrue.

        The commit may have happened although its confirmation was lost.
        """
        try:
            async with self._rt.db.transaction() as conn:
                yield conn
        finally:
            self.changed(aid, joins)

    def seen(self, aids: Collection[str | None]) -> None:
        """Forget the records of agents that a report names, and lists that show one of them as never seen."""
        self.forget(*(("agent", aid) for aid in aids))
        self._forget_lists(lambda page: page is not None and not page.unseen.isdisjoint(aids))

    def on_events(self, events: Sequence[Event]) -> None:
        """Called by the tail with new events."""
        self.seen({aid for event in events for aid in (event.aid_a, event.aid_b)})
        for event in events:
            if event.type.startswith("agent.") and event.aid_a is not None:
                self.changed(event.aid_a, _joined(event) if event.type == "agent.registered" else ())

    def on_moved(self, aid: str) -> None:
        """Called with the AID of an agent that any process has moved to another namespace."""
        self.changed(aid, None)

    def on_reset(self) -> None:
        """Called by the tail when the log, and with it the registry, was replaced."""
        self.clear()

    def _forget_lists(self, condition: Callable[[CachedRead | None], bool]) -> None:
        """Forget the lists that meet a condition; it gets None for one that is being read."""
        for key in list(self._lists):
            if condition(self.peek(key)):
                self._lists.discard(key)
                self.forget(key)


def _depends(page: CachedRead, aid: str, joins: Collection[str | None] | None) -> bool:
    return page.aids is None or aid in page.aids or joins is None or page.capability in joins


def _joined(event: Event) -> Collection[str | None] | None:
    """Return the lists that a registered agent may join, None if the event does not tell."""
    try:
        return {None, *msgspec.json.decode(event.payload, type=_Registered).offered_caps}
    except msgspec.DecodeError:
        return None


async def _agent(rt: Runtime, aid: str) -> CachedRead:
    async with rt.db.connection() as conn:
        agent, expires_at = existing(await store.find(conn, aid, rt.clock()), NO_AGENT)
    headers = {STATUS_HEADER: agent.status}
    if agent.status != Status.ACTIVE:
        return CachedRead(json_response(agent, headers=headers), None)
    cached, until = _cacheable(rt, RECORD_MAX_AGE_SECS, expires_at)
    headers["Cache-Control"] = cached if cached == "no-store" else f"public, {cached}"
    return CachedRead(json_response(agent, headers=headers), until)


async def _manifest(rt: Runtime, aid: str) -> CachedRead:
    async with rt.db.connection() as conn:
        stored = existing(await store.manifest_text(conn, aid, rt.clock()), NO_AGENT)
    cached, until = _cacheable(rt, MANIFEST_MAX_AGE_SECS, stored.expires_at if stored.status == Status.ACTIVE else None)
    contained = stored.status == Status.CONTAINED
    headers = {"Cache-Control": "no-store" if contained else cached, STATUS_HEADER: stored.status}
    return CachedRead(json_bytes(stored.text, headers=headers), until)


async def _page(rt: Runtime, filter: ListFilter) -> CachedRead:
    window = filter.window(ORDER)
    async with rt.db.connection() as conn:
        page, until = await store.list_agents(conn, filter, rt.clock(), window)
    first = window.offset == 0 and window.before is None
    aids = frozenset(agent.aid for agent in page.agents) if first else None
    unseen = frozenset(agent.aid for agent in page.agents if agent.last_seen_at is None)
    return CachedRead(json_response(page), until, filter.capability, aids, unseen)


def _cacheable(rt: Runtime, most_secs: int, expires_at: datetime | None) -> tuple[str, datetime | None]:
    """Return the `Cache-Control` of what is true until `expires_at`, and until when that header may be repeated."""
    if expires_at is None:
        return max_age(most_secs), None
    left = (expires_at - rt.clock()).total_seconds()
    # Near its end a response is not repeated: the next one must say less.
    return max_age(most_secs, left), expires_at - timedelta(seconds=min(most_secs, left))
