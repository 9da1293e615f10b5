"""One search over every room: one statement a kind, each by an index, each bounded."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from uuid import UUID

from aitp_cp.containment import store as containments
from aitp_cp.db import Connection
from aitp_cp.db.keyset import Window
from aitp_cp.deliveries import store as deliveries
from aitp_cp.errors import FilterInvalid
from aitp_cp.events import history
from aitp_cp.events import service as log
from aitp_cp.keys import store as keys
from aitp_cp.protocol.scopes import Scope
from aitp_cp.protocol.uuids import read_uuid
from aitp_cp.registry import store as registry
from aitp_cp.registry.model import ListFilter
from aitp_cp.revocation import store as revocation
from aitp_cp.search.model import MAX_QUERY, Hit, Kind, SearchResult
from aitp_cp.sessions import store as sessions
from aitp_cp.tcts import queries as tcts
from aitp_cp.truststore import store as truststore
from aitp_cp.webhooks import store as webhooks
from aitp_cp_client.wire.aid import spelled

MAX_AGENTS = 20
SHORTENED = "…"
BEGIN_ALIKE = 200  # agents that are compared with the end of a shortened AID


async def search(conn: Connection, q: str, scopes: Collection[Scope], now: datetime) -> SearchResult:
    """Return what `q` names among the things that a caller with these scopes may read; raises `FilterInvalid`."""
    q = q.strip()
    if len(q) > MAX_QUERY:
        raise FilterInvalid(f"q is longer than {MAX_QUERY} characters")
    if not q:
        return SearchResult(q, [])
    hits: list[Hit] = []
    id = read_uuid(q)
    if id is not None:
        for scope, find in LOOKUPS:
            if scope in scopes and (hit := await find(conn, id, now)) is not None:
                hits.append(hit)
    if Scope.EVENTS_READ in scopes:
        hits += await _named_in_events(conn, q)
    agents = await _agents(conn, q, now)
    known = {hit.id for hit in agents}
    if Scope.EVENTS_READ in scopes and spelled(q) not in known and await history.mentions(conn, spelled(q)):
        hits.append(Hit(kind=Kind.AGENT, id=spelled(q)))
    return SearchResult(q, [*hits, *agents])


async def _agents(conn: Connection, q: str, now: datetime) -> list[Hit]:
    start, shortened, end = spelled(q).replace("...", SHORTENED).partition(SHORTENED)
    if not start and not end:
        return []
    window = Window(BEGIN_ALIKE if shortened else MAX_AGENTS)
    page, _ = await registry.list_agents(conn, ListFilter(q=start or end, status="all"), now, window)
    hits = [
        Hit(kind=Kind.AGENT, id=agent.aid, name=agent.display_name, status=agent.status)
        for agent in page.agents
        if agent.aid.endswith(end)
    ]
    return sorted(hits, key=lambda hit: hit.id != spelled(q))[:MAX_AGENTS]


async def _named_in_events(conn: Connection, q: str) -> list[Hit]:
    """Sessions and runs, whose ids are any text."""
    session = await sessions.find(conn, q)
    hits = [] if session is None else [Hit(kind=Kind.SESSION, id=q, status=session.status)]
    return [*hits, Hit(kind=Kind.RUN, id=q)] if await history.has_run(conn, q) else hits


async def _event(conn: Connection, id: UUID, now: datetime) -> Hit | None:
    event = await log.find(conn, id)
    return None if event is None else Hit(kind=Kind.EVENT, id=str(id), name=event.type)


async def _tct(conn: Connection, id: UUID, now: datetime) -> Hit | None:
    parties = (await tcts.parties(conn, [id])).get(id)
    return None if parties is None else Hit(kind=Kind.TCT, id=str(id), name=parties[0])


async def _delegation(conn: Connection, id: UUID, now: datetime) -> Hit | None:
    delegator = await tcts.delegator(conn, id)
    return None if delegator is None else Hit(kind=Kind.DELEGATION, id=str(id), name=delegator)


async def _revocation(conn: Connection, id: UUID, now: datetime) -> Hit | None:
    entry = (await revocation.find(conn, [id])).get(id)
    return None if entry is None else Hit(kind=Kind.REVOCATION, id=str(id), name=entry.reason)


async def _containment(conn: Connection, id: UUID, now: datetime) -> Hit | None:
    stored = await containments.find(conn, id)
    if stored is None:
        return None
    status = "open" if stored.view.released_at is None else "released"
    return Hit(kind=Kind.CONTAINMENT, id=str(id), name=stored.view.aid, status=status)


async def _webhook(conn: Connection, id: UUID, now: datetime) -> Hit | None:
    webhook = await webhooks.find(conn, id)
    if webhook is None:
        return None
    return Hit(kind=Kind.WEBHOOK, id=str(id), name=webhook.url, status="active" if webhook.active else "paused")


async def _delivery(conn: Connection, id: UUID, now: datetime) -> Hit | None:
    webhook_id = await deliveries.webhook_of(conn, id)
    delivery = None if webhook_id is None else await deliveries.find(conn, webhook_id, id)
    if delivery is None or webhook_id is None:
        return None
    what, status = delivery.event_type, delivery.status
    return Hit(kind=Kind.DELIVERY, id=str(id), name=what, status=status, webhook_id=webhook_id)


async def _key(conn: Connection, id: UUID, now: datetime) -> Hit | None:
    key = next(iter(await keys.find(conn, [id])), None)
    return None if key is None else Hit(kind=Kind.KEY, id=str(id), name=key.name, status=key.state(now))


async def _anchor(conn: Connection, id: UUID, now: datetime) -> Hit | None:
    anchor = await truststore.find(conn, id)
    return None if anchor is None else Hit(kind=Kind.TRUST_ANCHOR, id=str(id), name=anchor.issuer_url)


# How to find each kind by a UUID, and what a caller needs to see it.
LOOKUPS: Sequence[tuple[Scope, Callable[[Connection, UUID, datetime], Awaitable[Hit | None]]]] = (
    (Scope.EVENTS_READ, _tct),
    (Scope.EVENTS_READ, _delegation),
    (Scope.REVOCATION_READ, _revocation),
    (Scope.EVENTS_READ, _event),
    (Scope.AGENTS_READ, _containment),
    (Scope.WEBHOOKS_READ, _webhook),
    (Scope.WEBHOOKS_READ, _delivery),
    (Scope.KEYS_ADMIN, _key),
    (Scope.TRUST_READ, _anchor),
)
