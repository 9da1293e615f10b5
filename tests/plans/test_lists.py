"""No list of the API reads a whole table, whatever its filters."""

import hashlib
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from aitp_cp.accounts import store as accounts
from aitp_cp.accounts.model import Which
from aitp_cp.audit import store as audit
from aitp_cp.audit.model import AuditExportQuery, AuditFilter
from aitp_cp.clock import now
from aitp_cp.containment import store as containments
from aitp_cp.containment.model import ContainmentQuery
from aitp_cp.dashboard import store as dashboard
from aitp_cp.db.keyset import Window
from aitp_cp.deliveries import attempts, health, outbox, resending
from aitp_cp.deliveries import store as deliveries
from aitp_cp.deliveries.model import DeliveryFilter, read_codes
from aitp_cp.events import counts as event_counts
from aitp_cp.events import history as lists
from aitp_cp.events import invocations, positions
from aitp_cp.events import store as events
from aitp_cp.events.model import HistoryFilter
from aitp_cp.events.newer import NEWER, SKIPPED, statement_of
from aitp_cp.keys import store as keys
from aitp_cp.keys.model import KeyFilter
from aitp_cp.notes import store as notes
from aitp_cp.notes.model import NotesQuery
from aitp_cp.protocol.reports import Proof
from aitp_cp.protocol.scopes import ALL_SCOPES
from aitp_cp.registry import history as history_of_manifests
from aitp_cp.registry import standing
from aitp_cp.registry import store as registry
from aitp_cp.registry.model import ListFilter, OperatorFilter
from aitp_cp.revocation import store as revocation
from aitp_cp.search import service as search
from aitp_cp.sessions import store as sessions
from aitp_cp.sessions.model import SessionFilter
from aitp_cp.tcts import edges, exposure, graph, standing_rule
from aitp_cp.tcts import queries as tcts
from aitp_cp.tcts import store as writes
from aitp_cp.tcts.model import Changes, Item, Reached
from aitp_cp.tcts.views import DelegationFilter, TctFilter
from aitp_cp.truststore import store as truststore
from aitp_cp.webhooks import store as webhooks
from tests.plans.support import BUSY, RARE, RUN, SESSION, explained

pytestmark = pytest.mark.anyio

Ask = Callable[[Any], Awaitable[Any]]

NOW = now()
DAY_AGO = NOW - timedelta(days=1)
JTI = uuid4()
PLACE = (DAY_AGO, 100_000)
TOLD = events.READ_LOG.format(
    shown=events.VIEW.sql,
    columns=events.COLUMNS,
    where="seq > $1 AND seq <= $2 AND type = ANY($3::text[]) AND adopted = $4",
    after="$1",
    rows="$5",
    size="$6",
)
HOOK = UUID(hashlib.md5(b"hook3").hexdigest())


def newer_events(form: str, **wanted: Any) -> Ask:
    statement, args = statement_of(form, HistoryFilter(**wanted), 190_000, 200_000, 100)
    return lambda conn: conn.fetch(statement, *args)


def history(limit: int = 100, offset: int = 0, before: Any = None, **wanted: Any) -> Ask:
    return lambda conn: lists.newest(conn, HistoryFilter(**wanted), Window(limit, offset, before))


def log(**wanted: Any) -> Ask:
    return lambda conn: lists.after(conn, HistoryFilter(**wanted), 150_000, 100)


def session_list(limit: int = 200, offset: int = 0, before: Any = None, **wanted: Any) -> Ask:
    return lambda conn: sessions.list_sessions(conn, SessionFilter(**wanted), Window(limit, offset, before))


def tct_list(limit: int = 100, offset: int = 0, before: Any = None, **wanted: Any) -> Ask:
    return lambda conn: tcts.list_tcts(conn, TctFilter(**wanted), Window(limit, offset, before), NOW)


def delegation_list(before: Any = None, **wanted: Any) -> Ask:
    return lambda conn: tcts.list_delegations(conn, DelegationFilter(**wanted), Window(100, 0, before), NOW)


def agent_list(before: Any = None, **wanted: Any) -> Ask:
    return lambda conn: registry.list_agents(conn, ListFilter(**wanted), NOW, Window(200, 0, before))


def operators_list(before: Any = None, **wanted: Any) -> Ask:
    return lambda conn: registry.list_agents(conn, OperatorFilter(**wanted), NOW, Window(100, 0, before))


def note_list(before: Any = None, **wanted: Any) -> Ask:
    return lambda conn: notes.page(conn, NotesQuery(**wanted), Window(100, 0, before))


def audits(**wanted: Any) -> list[Ask]:
    """A first and a later page of the audit."""
    return [
        lambda conn: audit.page(conn, AuditFilter(**wanted), Window(100)),
        lambda conn: audit.page(conn, AuditFilter(**wanted), Window(100, 0, (DAY_AGO, JTI))),
    ]


def delivery_list(before: Any = None, webhook: UUID = HOOK, **wanted: Any) -> Ask:
    filter = DeliveryFilter(**wanted)
    return lambda conn: deliveries.list_deliveries(conn, webhook, filter, Window(100, 0, before))


def resending_of(**wanted: Any) -> Ask:
    """Picking what is sent again."""
    where = deliveries.narrowed(HOOK, DeliveryFilter(**wanted))
    where.always(resending.FINISHED)
    statement = resending.PICK.format(where=where.sql(), limit=where.bind(1000))
    return lambda conn: conn.fetch(statement, *where.args)


def page(read: Any, key: Any, place: Any) -> list[Ask]:
    """A first and a later page of a list that is read on by place."""
    return [lambda conn: read(conn, key, None, 100), lambda conn: read(conn, key, place, 100)]


LISTS: dict[str, list[Ask]] = {
    "GET /console/events": [
        newer_events(NEWER),
        newer_events(NEWER, type="type-3"),
        newer_events(NEWER, aid=RARE),
        newer_events(SKIPPED),
        newer_events(SKIPPED, run_id=RUN),
    ],
    "GET /api/events/history": [
        history(),
        history(limit=1000, offset=5000),
        history(since=DAY_AGO, until=NOW),
        history(type="type-3"),
        history(type="none"),
        history(types=("type-3", "type-4")),
        history(types=("type-3", "type-4"), since=DAY_AGO, before=PLACE),
        history(type="type.", aid=BUSY),
        lambda conn: event_counts.known_types(conn),
        history(session_id=SESSION),
        history(run_id=RUN),
        history(aid=BUSY),
        history(aid=RARE),
        history(aid=BUSY, type="type-3"),
        history(aid=RARE, since=DAY_AGO),
        history(run_id=RUN, type="type-3"),
        history(reported_by=RARE),
        history(reported_by=RARE, proof=Proof.SIGNATURE),
        history(proof=Proof.SIGNATURE),
        history(proof=Proof.AGENT_TOKEN),
        history(proof=Proof.SHARED_KEY),
        history(before=PLACE),
        history(before=PLACE, type="type-3"),
        history(before=PLACE, aid=BUSY),
        history(before=PLACE, aid=RARE, since=DAY_AGO),
        history(before=PLACE, run_id=RUN),
        history(before=PLACE, session_id=SESSION),
    ],
    "the log in order": [log(), log(type="type-3"), log(run_id=RUN)],
    "events of a session or agent": [
        *page(lists.of_session, HistoryFilter(session_id=SESSION, since=DAY_AGO), PLACE),
        *page(lists.of_aid, BUSY, PLACE),
        *page(lists.of_aid, RARE, PLACE),
    ],
    "GET /api/sessions": [
        session_list(),
        session_list(limit=1000, offset=5000),
        session_list(since=DAY_AGO),
        session_list(status="failed"),
        session_list(status="none"),
        session_list(until=DAY_AGO),
        session_list(since=DAY_AGO, until=DAY_AGO + timedelta(hours=1)),
        session_list(boundary="org"),
        session_list(boundary="none"),
        session_list(error="key_mismatch"),
        session_list(error="none", aid=RARE),
        session_list(run_id=RUN),
        session_list(run_id=RUN, status="failed"),
        session_list(aid=BUSY),
        session_list(aid=RARE, status="complete"),
        session_list(before=(DAY_AGO, SESSION)),
        session_list(before=(DAY_AGO, SESSION), status="failed"),
        session_list(before=(DAY_AGO, SESSION), run_id=RUN),
        session_list(before=(DAY_AGO, SESSION), aid=BUSY),
        *page(sessions.of_agent, BUSY, (DAY_AGO, SESSION)),
        lambda conn: sessions.find(conn, SESSION),
        lambda conn: sessions.newest_of(conn, [BUSY, RARE]),
        lambda conn: sessions.peers(conn, BUSY, 1000, limit=100),
        lambda conn: sessions.peers(conn, RARE, 1000, limit=100),
    ],
    "GET /api/tcts": [
        tct_list(),
        tct_list(offset=5000),
        tct_list(active=True),
        tct_list(expires_before=NOW + timedelta(minutes=5)),
        tct_list(expires_before=NOW + timedelta(minutes=5), issuer=BUSY, before=(NOW, JTI)),
        tct_list(issuer=BUSY),
        tct_list(subject=RARE),
        tct_list(audience=RARE),
        tct_list(issuer=BUSY, audience=RARE, active=True),
        tct_list(capability="cap-3"),
        tct_list(capability="none"),
        tct_list(session_id=SESSION),
        tct_list(verdict="verified"),
        tct_list(verdict="none"),
        tct_list(verdict="invalid"),
        tct_list(verdict="unverifiable", issuer=BUSY),
        tct_list(before=(DAY_AGO, JTI), verdict="invalid"),
        tct_list(before=(DAY_AGO, JTI), verdict="none"),
        tct_list(before=(DAY_AGO, JTI)),
        tct_list(before=(DAY_AGO, JTI), issuer=BUSY),
        tct_list(before=(DAY_AGO, JTI), capability="cap-3"),
        *page(tcts.tcts_of_session, SESSION, (DAY_AGO, JTI)),
        *page(tcts.tcts_of_agent, BUSY, (DAY_AGO, JTI)),
        *page(tcts.tcts_of_agent, RARE, (DAY_AGO, JTI)),
    ],
    "GET /api/delegations": [
        *page(tcts.delegations_of_agent, BUSY, (DAY_AGO, JTI)),
        *page(tcts.delegations_of_agent, RARE, (DAY_AGO, JTI)),
        delegation_list(),
        delegation_list(active=True),
        delegation_list(parent_jti=JTI),
        delegation_list(delegator=BUSY),
        delegation_list(delegatee=RARE, active=True),
        delegation_list(verdict="verified"),
        delegation_list(verdict="none"),
        delegation_list(verdict="unverifiable"),
        delegation_list(before=(DAY_AGO, JTI), verdict="invalid"),
        delegation_list(before=(DAY_AGO, JTI)),
        delegation_list(before=(DAY_AGO, JTI), delegator=BUSY),
        lambda conn: tcts.tree(conn, JTI, None),
        lambda conn: tcts.tree(conn, JTI, NOW),
    ],
    "GET /api/registry/agents": [
        agent_list(),
        agent_list(status="all"),
        agent_list(status="contained"),
        agent_list(status="expired"),
        agent_list(status="deregistered"),
        agent_list(capability="cap.read"),
        agent_list(capability="none"),
        agent_list(aid=RARE),
        agent_list(namespace="ns-3", include_manifest=True),
        agent_list(before=(DAY_AGO, RARE)),
        agent_list(before=(DAY_AGO, RARE), status="all"),
        agent_list(before=(DAY_AGO, RARE), status="expired"),
        agent_list(before=(DAY_AGO, RARE), include_manifest=True, capability="cap.read"),
        agent_list(q="Name 1999"),
        agent_list(q="none"),
        agent_list(q="19999", status="all"),
        agent_list(looks_like="name 7", status="all"),
        operators_list(owner="team 7"),
        operators_list(unowned=True, before=(DAY_AGO, RARE)),
        operators_list(owner="team 7", status="all", q="name"),
        lambda conn: standing.have_namesakes(conn, [BUSY, RARE]),
        lambda conn: standing.namesakes(conn, "name 7", RARE, NOW),
        agent_list(expires_after=NOW, expires_before=NOW + timedelta(hours=1)),
        agent_list(expires_before=NOW, status="expired", before=(DAY_AGO, RARE)),
    ],
    "GET /api/webhooks": [
        lambda conn: webhooks.list_webhooks(conn, Window(100)),
        lambda conn: webhooks.list_webhooks(conn, Window(100, 0, (DAY_AGO, JTI))),
    ],
    "GET /api/webhooks/{id}/deliveries": [
        delivery_list(webhook=JTI),
        delivery_list(webhook=JTI, status="failed"),
        delivery_list(before=(DAY_AGO, JTI)),
        delivery_list(before=(DAY_AGO, JTI), status="failed"),
        delivery_list(status="failed", codes=read_codes("5xx"), since=DAY_AGO, until=NOW),
        delivery_list(type="tct.revoked", codes=read_codes("none")),
    ],
    "GET /api/webhooks/{id}/deliveries/{deliveryId}/attempts": [
        lambda conn: attempts.page(conn, JTI, Window(100)),
        lambda conn: attempts.page(conn, JTI, Window(100, 0, (3, DAY_AGO))),
    ],
    "webhooks resent, replayed and looked at": [
        resending_of(status="failed", since=DAY_AGO, until=NOW),
        resending_of(type="tct.revoked"),
        resending_of(ids=[JTI]),
        lambda conn: conn.execute(resending.REQUEUE, [JTI]),
        lambda conn: attempts.forget_old(conn, [JTI]),
        lambda conn: deliveries.delivered_events(conn, HOOK, [JTI]),
        lambda conn: conn.fetchrow(positions.ENDS),
        lambda conn: conn.fetchrow(positions.NEXT, 150_000),
        lambda conn: conn.fetch(health.STATE, [HOOK], 500),
        lambda conn: conn.fetch(health.OUTCOMES, [HOOK], 10_001),
    ],
    "webhook outbox": [
        lambda conn: conn.fetch(events.REACH, 150_000, 5000),
        lambda conn: conn.fetch(TOLD, 150_000, 155_000, outbox.TYPES, False, 1000, 10**6),
        lambda conn: conn.fetchval(events.BEFORE_RECEIVED, DAY_AGO, 5000),
        lambda conn: deliveries.cursor(conn),
    ],
    "GET /api/audit": [
        lambda conn: audit.page(conn, AuditFilter(), Window(100)),
        lambda conn: audit.page(conn, AuditFilter(), Window(1000, 5000)),
        lambda conn: audit.page(conn, AuditFilter(), Window(1000, 0, (DAY_AGO, JTI))),
        *audits(actor="apikey:1"),
        *audits(action="agent.contain"),
        *audits(target=RARE),
        *audits(request_id="none"),
        *audits(since=DAY_AGO, until=NOW),
        *audits(actor="apikey:1", action="agent.register", since=DAY_AGO),
        lambda conn: audit.has_more_than(conn, AuditExportQuery(target=RARE), 100_000),
        lambda conn: audit.find(conn, JTI),
    ],
    "GET /api/dashboard/agents": [
        lambda conn: registry.summaries(conn, NOW, Window(1000)),
        lambda conn: registry.summaries(conn, NOW, Window(1000, before=(DAY_AGO, BUSY))),
        lambda conn: dashboard.of_agents(conn, [BUSY, RARE]),
    ],
    "dashboard": [
        lambda conn: standing.registered_since(conn, DAY_AGO, timedelta(hours=1)),
        lambda conn: revocation.revoked_since(conn, DAY_AGO, timedelta(hours=1)),
        lambda conn: conn.fetchval(edges.COUNT_LIVE, NOW),
        lambda conn: sessions.count_since(conn, DAY_AGO, timedelta(hours=1)),
        lambda conn: conn.fetch(invocations.SINCE, DAY_AGO, 10, DAY_AGO + invocations.BUCKET),
        lambda conn: registry.namespaces(conn, 200),
        session_list(limit=20, since=DAY_AGO),
    ],
    "GET /api/search": [
        lambda conn: search.search(conn, str(JTI), ALL_SCOPES, NOW),
        lambda conn: search.search(conn, "name 19", ALL_SCOPES, NOW),
        lambda conn: search.search(conn, f"{RARE[:6]}…{RARE[-3:]}", ALL_SCOPES, NOW),
    ],
    "GET /api/attention": [
        lambda conn: conn.fetchrow(sessions.FAILED, DAY_AGO, DAY_AGO),
        lambda conn: conn.fetchval(deliveries.OLDEST_DUE),
        lambda conn: standing.expiring(conn, NOW, NOW + timedelta(days=1)),
        lambda conn: standing.newest_active(conn, NOW, 1000),
        lambda conn: standing.lookalikes_among(conn, [f"aid-{n}" for n in range(1000)], 10),
        lambda conn: webhooks.broken(conn, 10),
    ],
    "GET /api/trust/edges": [
        *(
            lambda conn, aid=aid, statement=statement, grant=grant: conn.fetch(statement, aid, NOW, grant, 1)
            for aid in (BUSY, RARE)
            for statement in (edges.LIVE_EGO, edges.WHOLE_EGO)
            for grant in (None, "cap-3")
        ),
        lambda conn: edges.most_trusted(conn, NOW, None, 1),
        lambda conn: standing.marks(conn, [BUSY, RARE], NOW),
    ],
    "GET /api/trust-anchors": [
        lambda conn: truststore.list_anchors(conn, None, Window(100)),
        lambda conn: truststore.list_anchors(conn, None, Window(100, 0, (DAY_AGO, JTI))),
    ],
    "GET /api/keys": [
        lambda conn: keys.page(conn, KeyFilter.ACTIVE, Window(100), NOW),
        lambda conn: keys.page(conn, KeyFilter.REVOKED, Window(100), NOW),
        lambda conn: keys.page(conn, KeyFilter.ALL, Window(100, 0, (DAY_AGO, JTI)), NOW),
        lambda conn: keys.find(conn, [JTI]),
        lambda conn: keys.find_by_digest(conn, b"digest"),
        lambda conn: keys.newest_of_families(conn, [JTI], NOW),
        lambda conn: accounts.find(conn, b"digest"),
        lambda conn: accounts.find_all(conn, [JTI]),
        lambda conn: accounts.page(conn, Window(100), NOW, DAY_AGO),
        lambda conn: accounts.page(conn, Window(100, 0, (DAY_AGO, JTI)), NOW, DAY_AGO, "user:1"),
        lambda conn: accounts.end(conn, NOW, "a", Which(subject="user:1", besides=JTI)),
        lambda conn: accounts.end(conn, NOW, "a", Which(id=JTI)),
        lambda conn: accounts.end(conn, NOW, "a", Which(idp_sid="sid")),
        lambda conn: keys.mark_used(conn, {JTI: (NOW.timestamp(), "192.0.2.1")}),
    ],
    "GET /api/pinned-keys": [
        lambda conn: truststore.list_pinned(conn, None, Window(100)),
        lambda conn: truststore.list_pinned(conn, None, Window(100, 0, ("ns-3", RARE))),
        lambda conn: truststore.list_pinned(conn, "ns-3", Window(100, 0, ("ns-3", RARE))),
        lambda conn: truststore.namespaces(conn, 200),
    ],
    "GET /api/registry/notes": [
        note_list(),
        note_list(owner="team 7"),
        note_list(aid=RARE, owner="none"),
        note_list(label="label 7"),
        note_list(before=(DAY_AGO, RARE), owner="team 7"),
        lambda conn: notes.owners(conn, [BUSY, RARE]),
    ],
    "GET /api/registry/agents/{aid}/manifests": [
        lambda conn: conn.fetch(history_of_manifests.LIST, BUSY),
        lambda conn: conn.fetch(f"{history_of_manifests.FIND} sha256 = $2", BUSY, "digest"),
        lambda conn: history_of_manifests.keep_stored(conn, BUSY),
    ],
    "GET /api/containments": [
        lambda conn: containments.page(conn, ContainmentQuery(), Window(100)),
        lambda conn: containments.page(conn, ContainmentQuery(open=True, aid=RARE), Window(100, 0, (DAY_AGO, JTI))),
    ],
    "GET /api/revocation/entries": [
        lambda conn: revocation.page(conn, None, Window(100)),
        lambda conn: revocation.page(conn, JTI, Window(100)),
        lambda conn: revocation.page(conn, None, Window(100, 0, (DAY_AGO, JTI))),
    ],
}


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_reads_no_whole_table(filled_database_url: str, name: str) -> None:
    async with explained(filled_database_url) as conn:
        for number, ask in enumerate(LISTS[name]):
            await ask(conn)
            assert conn.whole_table_reads() == [], f"{name}, question {number}"
    assert len(conn.plans) >= len(LISTS[name])


async def test_what_follows_a_revocation_reads_no_whole_table(filled_database_url: str) -> None:
    some = [UUID(int=number) for number in range(100)]
    async with explained(filled_database_url) as conn:
        await writes.mark_tcts(conn, some)
        await graph.mark_touched(conn, some)
        await writes.TCTS.lock(conn, some)
        await writes.DELEGATIONS.lock(conn, some)
        await sessions.SESSIONS.lock(conn, [f"session-{number}" for number in range(100)])
        await graph.find_open(conn, some, urgent=True)
        await graph.expand(conn, [Item(jti, NOW, True) for jti in some], 10)
        reached = [Reached(jti, NOW) for jti in some]
        await graph.reach(conn, reached, 2000)
        await graph.mark_reached(conn, reached)
        await graph.find_wide(conn, reached, urgent=True)
        assert conn.whole_table_reads() == []


@pytest.mark.parametrize("aid", [BUSY, RARE])
async def test_a_containment_reads_no_whole_table(filled_database_url: str, aid: str) -> None:
    selection = exposure.Selection(aid, NOW, "all", "revokeSource")
    async with explained(filled_database_url) as conn:
        await conn.fetchrow(exposure.PLAN, *selection.arguments)
        await exposure.pick(conn, selection, 10_000)
        await sessions.peers(conn, aid, 10_000, among=[BUSY, RARE])
        await standing_rule.mark(conn, Changes({}, [], []), [JTI], NOW)
        # Thousands of tokens are compared with the deny list in one pass over it.
        assert set(conn.whole_table_reads()) <= ({"revocation_entries"} if aid == BUSY else set())


async def test_an_order_is_read_off_an_index_where_there_is_much_of_it(filled_database_url: str) -> None:
    """Only ties of one moment are sorted; what a busy agent ever did is not."""
    asks = [history(), history(aid=BUSY), session_list(), session_list(aid=BUSY), tct_list(), tct_list(issuer=BUSY)]
    async with explained(filled_database_url) as conn:
        asks += [delegation_list(), delegation_list(delegator=BUSY), agent_list(), LISTS["GET /api/audit"][0]]
        for ask in asks:
            await ask(conn)
        sorts = [node for node in conn.nodes() if node["Node Type"] == "Sort" and node["Plan Rows"] > 1000]
        assert sorts == []


async def test_reading_on_begins_at_the_place_and_not_at_the_newest_row(filled_database_url: str) -> None:
    """The cursor's first column bounds an index, whatever the filters: the last page costs what the first does."""
    asks = {
        "ts": [
            history(before=PLACE),
            history(before=PLACE, type="type-3"),
            history(before=PLACE, aid=BUSY),
            history(before=PLACE, run_id=RUN),
            history(before=PLACE, session_id=SESSION),
            history(before=PLACE, reported_by=BUSY),
            history(before=PLACE, proof=Proof.SIGNATURE),
        ],
        "created_at": [
            session_list(before=(DAY_AGO, SESSION)),
            session_list(before=(DAY_AGO, SESSION), status="failed"),
            session_list(before=(DAY_AGO, SESSION), run_id=RUN),
            session_list(before=(DAY_AGO, SESSION), aid=BUSY),
            *LISTS["GET /api/webhooks/{id}/deliveries"][2:4],
            LISTS["GET /api/audit"][2],
            LISTS["GET /api/trust-anchors"][1],
        ],
        "issued_at": [
            tct_list(before=(DAY_AGO, JTI)),
            tct_list(before=(DAY_AGO, JTI), issuer=BUSY),
            delegation_list(before=(DAY_AGO, JTI)),
            delegation_list(before=(DAY_AGO, JTI), delegator=BUSY),
        ],
        "revoked_at": [LISTS["GET /api/revocation/entries"][2]],
        "registered_at": [agent_list(before=(DAY_AGO, RARE)), agent_list(before=(DAY_AGO, RARE), status="all")],
        "namespace": [LISTS["GET /api/pinned-keys"][1]],
    }
    for column, questions in asks.items():
        for number, ask in enumerate(questions):
            async with explained(filled_database_url) as conn:
                await ask(conn)
                bounds = [str(node.get("Index Cond")) for node in conn.nodes()]
                assert any(re.search(rf"\b{column}\b", bound) for bound in bounds), (column, number, bounds)


async def test_a_run_with_many_events_is_read_off_its_index(filled_database_url: str) -> None:
    """Row 35: the newest events of a run come off an index in their order; nothing is sorted."""
    async with explained(filled_database_url) as conn:
        for ask in (history(run_id=RUN), history(run_id=RUN, before=PLACE)):
            await ask(conn)
        assert [node for node in conn.nodes() if "Sort" in node["Node Type"]] == []
        assert {node.get("Index Name") for node in conn.nodes()} >= {"audit_events_run_ts_seq_idx"}
