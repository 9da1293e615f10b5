"""Contain an agent, let it go again, and revoke what is reported of it meanwhile (contract, section 21).

    contain ──> one transaction: lock the agent ─> plan ─> deny list, cascade ─> audit, log
                   └─ more than `AT_ONCE` ids ──> pending ──> `settle_next`, by a job

The locks: `aitp_cp.db.locks`. An agent is contained while it has a row that is not released; no other row says so.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID, uuid4

import msgspec

from aitp_cp.audit import service as audit
from aitp_cp.audit.model import Actor
from aitp_cp.clock import iso_or_none
from aitp_cp.containment import store
from aitp_cp.containment.model import (
    Act,
    Containment,
    DelegationPlan,
    ExposedPeer,
    NewContainment,
    Plan,
    Stored,
    TokenPlan,
)
from aitp_cp.db import Connection
from aitp_cp.db.locks import lock_agent
from aitp_cp.errors import Conflict, NotContained, PlanChanged, existing
from aitp_cp.events import service as log
from aitp_cp.events.model import NewEvent
from aitp_cp.events.projection import Caught
from aitp_cp.registry import store as agents
from aitp_cp.registry.announce import agent_event
from aitp_cp.revocation import service as revocation
from aitp_cp.revocation import store as deny_list
from aitp_cp.sessions import store as sessions
from aitp_cp.tcts import exposure
from aitp_cp.tcts import service as tcts
from aitp_cp.tcts.exposure import Exposure, Selection

AT_ONCE = 10_000  # ids of one act: about a second, in which no other report is stored for long
BATCH = 2_000  # ids of one turn of the job: a fifth of a second
# The public list says no more: the operator's own words may name people or other victims.
REASON = "agent contained"
SESSIONS_READ = 10_000  # newest sessions in which a peer's last one is looked for


async def plan(conn: Connection, aid: str, body: NewContainment, now: datetime) -> Containment:
    """Return what `contain` would answer, without doing it; raises `PlanChanged`."""
    if (known := await store.find_open(conn, aid)) is not None:
        return shown(known)
    planned = await _plan(conn, _scope(aid, body, now))
    _check_expected(body, planned)
    return _response(planned, max(0, planned.revocations - AT_ONCE))


async def contain(conn: Connection, aid: str, body: NewContainment, actor: Actor, now: datetime) -> Stored | None:
    """Contain an agent in the caller's transaction; None when it is contained already. Raises `PlanChanged`."""
    await lock_agent(conn, aid)
    if await store.find_open(conn, aid) is not None:
        return None
    scope = _scope(aid, body, now)
    planned = await _plan(conn, scope)
    _check_expected(body, planned)
    announced = agent_event("agent.contained", aid, {}, now)
    remaining = max(0, planned.revocations - AT_ONCE)
    act = Act(uuid4(), aid, body, actor.id, announced.id, planned, remaining)
    await store.insert(conn, act, now)
    events = await _revoke(conn, await exposure.pick(conn, scope, AT_ONCE), now)
    await store.advance(conn, act.id, 0, await deny_list.version(conn), now, done=remaining == 0)
    summary = {"reason": body.reason, "ticket": body.ticket, "containmentId": str(act.id)}
    counts = {"tokens": planned.tokens, "delegations": planned.delegations.count, "remaining": remaining}
    modes = {"heldDelegations": body.held_delegations, "include": body.include, "planDigest": planned.plan_digest}
    await audit.record(conn, "agent.contain", actor, aid, summary | msgspec.to_builtins(counts) | modes, now)
    payload = msgspec.json.encode(summary | counts).decode()
    await log.append(conn, [msgspec.structs.replace(announced, payload=payload), *events], now)
    return await store.find(conn, act.id)


async def release(conn: Connection, aid: str, reason: str, actor: Actor, now: datetime) -> Stored:
    """End an agent's containment; its tokens stay revoked, and the agent counts as deregistered from now on.

    Raises `NotContained`, and `Conflict` while the job is still revoking its tokens.
    """
    await lock_agent(conn, aid)
    known = await store.find_open(conn, aid)
    if known is None:
        raise NotContained
    if known.pending:
        raise Conflict("the containment is still revoking tokens: try again", headers={"Retry-After": "5"})
    await store.release(conn, known.view.id, actor.id, reason, now)
    await agents.deregister(conn, [aid], now)
    summary = {"reason": reason, "containmentId": str(known.view.id)}
    await audit.record(conn, "agent.release", actor, aid, summary, now)
    await log.append(conn, [agent_event("agent.released", aid, summary, now)], now)
    return await get(conn, known.view.id)


async def get(conn: Connection, id: UUID) -> Stored:
    """Return a containment; raises `NotFound`."""
    return existing(await store.find(conn, id), "no such containment")


async def enforce(conn: Connection, caught: Sequence[Caught], now: datetime) -> list[NewEvent]:
    """Put what was reported of contained agents, and is marked revoked, onto the deny list where it belongs there.

    Return the events for the caller to append. Only what its issuer signed is listed: a claim names any id it likes.
    """
    listed = {token.jti: token.parties for token in caught if token.verified and token.live}
    counts: dict[UUID, tuple[int, int]] = {}
    for token in caught:
        known = counts.get(token.containment, (0, 0))
        counts[token.containment] = known[0] + (token.verified and token.live), known[1] + (not token.verified)
    events = await revocation.add(conn, listed, REASON, now)
    await store.count_later(conn, dict(sorted(counts.items())))
    return events


async def settle_next(conn: Connection, now: datetime) -> int:
    """Revoke the next tokens of the oldest containment that is not done; return how many, 0 when all are done."""
    pending = await store.first_pending(conn)
    if pending is None:
        return 0
    scope = Selection(pending.aid, now, pending.include, pending.held_delegations)
    picked = await exposure.pick(conn, scope, BATCH)
    events = await _revoke(conn, picked, now)
    done = len(picked) < BATCH
    await store.advance(conn, pending.id, len(picked), await deny_list.version(conn), now, done=done)
    await log.append(conn, events, now)
    return BATCH  # there may be another one


def shown(stored: Stored) -> Containment:
    return _response(stored.plan, stored.remaining, stored)


async def _revoke(conn: Connection, parties: Mapping[UUID, tuple[str, str]], now: datetime) -> list[NewEvent]:
    events = await revocation.add(conn, parties, REASON, now)
    await tcts.revoke_of_agent(conn, dict.fromkeys(parties, now))
    return events


async def _plan(conn: Connection, scope: Selection) -> Plan:
    exposed = await exposure.measure(conn, scope)
    return Plan(
        tokens=TokenPlan(exposed.issued, exposed.held, exposed.unlistable, exposed.by_verdict, exposed.shared),
        delegations=DelegationPlan(exposed.below, exposed.depth, exposed.collateral),
        exposed_peers=await _peers(conn, scope.aid, exposed),
        exposed_peer_count=exposed.peer_count,
        list_entries_after=await deny_list.count_listed(conn) + exposed.listable,
        plan_digest=exposed.digest,
        revocations=exposed.items,
    )


async def _peers(conn: Connection, aid: str, exposed: Exposure) -> list[ExposedPeer]:
    peers = [peer for peer, _ in exposed.peers]
    names = await agents.names_of(conn, peers)
    last = {peer.aid: peer.last_at for peer in await sessions.peers(conn, aid, SESSIONS_READ, among=peers)}
    return [ExposedPeer(peer, names.get(peer), count, iso_or_none(last.get(peer))) for peer, count in exposed.peers]


def _check_expected(body: NewContainment, planned: Plan) -> None:
    if body.expect is not None and body.expect != planned.plan_digest:
        raise PlanChanged(extra={"planDigest": planned.plan_digest})


def _response(planned: Plan, remaining: int, stored: Stored | None = None) -> Containment:
    view = None if stored is None else stored.view
    return Containment(**msgspec.structs.asdict(planned), containment=view, remaining=remaining)


def _scope(aid: str, body: NewContainment, now: datetime) -> Selection:
    return Selection(aid, now, body.include, body.held_delegations)
