"""Write what reports say of tokens and delegations, and let revocations take effect (contract, sections 9 to 11)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from aitp_cp.db import Connection
from aitp_cp.db.locks import GRAPH, SETTLING, lock, lock_graph, lock_within, try_lock
from aitp_cp.events.projection import NOT_A_PARTY, Effect, Projection, Refusal
from aitp_cp.protocol.reports import Report
from aitp_cp.protocol.vocabulary import Target, types_of
from aitp_cp.tcts import cascade, graph, standing_rule, store
from aitp_cp.tcts.delegating import Merged, merge_delegations
from aitp_cp.tcts.model import Budget, Item, Revocation
from aitp_cp.tcts.projection import changes_from, claims_of, unproven

# What a transaction settles of a cascade itself. Everybody else waits for the graph lock meanwhile, so reports get
# less than an operator, who wants to see the effect. 10,000 rows take half a second.
ENTERED = Budget(rows=10_000, secs=0.4)
REPORTED = Budget(rows=2_000, secs=0.2)
LEFT_OVER = Budget(rows=4_000, secs=0.15)
GRAPH_WAIT_SECS = 0.3
AGENT_WAIT_SECS = 0.2  # for a containment of one of the agents; others of the group wait with it


async def project(conn: Connection, reports: Sequence[Report], now: datetime) -> Effect:
    """Merge what `reports`, received at `now`, say into the tables, by the rules of `aitp_cp.tcts.callers`.

    A report is refused when its caller has too many delegations of one parent, or its tokens are not verified and must
    be. Must come before any other row lock of the transaction. Lock order: agents, the graph lock, rows in key order,
    the log lock. Raises `AgentsBusy`.
    """
    changes = changes_from(reports, now)
    refusals = list(unproven(reports))
    if not changes:
        return Effect(refusals=refusals)
    shared = not (changes.delegations or changes.revocations)
    await lock_graph(conn, standing_rule.parties(changes), AGENT_WAIT_SECS, shared=shared)
    signed = [revocation for revocation in changes.revocations if revocation.signer is not None]
    unsigned = [revocation for revocation in changes.revocations if revocation.signer is None]
    revoked: list[UUID] = []
    if unsigned:
        revoked += await store.remember_revocations(conn, unsigned, now)
    if signed:
        revoked += await store.remember_signed(conn, signed, now)
    await store.keep_hidden(conn, await store.TCTS.merge(conn, changes.tcts, now))
    merged = await merge_delegations(conn, changes.delegations, now) if changes.delegations else Merged([], [])
    caught = await standing_rule.mark(conn, changes, revoked, now)
    derived = await graph.find_derived(conn, [revocation.jti for revocation in signed]) if signed else []
    await graph.add_work(conn, derived[REPORTED.rows :])
    written = {report.state.jti for report in changes.delegations} | {item.jti for item in derived[: REPORTED.rows]}
    written.update(await graph.release(conn, merged.moved))
    await cascade.settle(conn, written, revoked, REPORTED, urgent=False)
    refusals += [*merged.refusals, *await _refuse_revocations(conn, signed)]
    return Effect(refusals=refusals, caught=caught)


async def _refuse_revocations(conn: Connection, signed: Sequence[Revocation]) -> list[Refusal]:
    """Refuse what signers revoke and others have issued."""
    foreign = await store.issued_by_others(conn, signed) if signed else set()
    return [
        Refusal(revocation.event_id, *NOT_A_PARTY)
        for revocation in signed
        if revocation.event_id is not None and (revocation.jti, revocation.signer) in foreign
    ]


def parties(reports: Sequence[Report], now: datetime) -> set[str]:
    """Return the agents whose locks `project` shares for these reports."""
    return standing_rule.parties(changes_from(reports, now))


PROJECTION = Projection(types_of(Target.TOKENS), project, claims_of, store.stored_parties)


async def revoke(conn: Connection, entries: Mapping[UUID, datetime], requests: int = 1) -> None:
    """Let entries of the deny list, which the caller has just inserted, take effect on tokens and delegations.

    `entries` says since when each token is revoked, `requests` how many requests they come from. The effect is bounded,
    and what is beyond follows by a job. So it does when the graph of tokens is busy for long: an operator's revocation
    waits for nothing that reports cause.
    """
    if await lock_within(conn, GRAPH, GRAPH_WAIT_SECS):
        await store.mark_tcts(conn, sorted(entries))
        await cascade.settle(conn, (), entries, Budget(ENTERED.rows * requests, ENTERED.secs), urgent=True)
    else:
        await graph.add_work(conn, [Item(jti, entries[jti], urgent=True) for jti in sorted(entries)])


async def revoke_of_agent(conn: Connection, entries: Mapping[UUID, datetime]) -> None:
    """Do the same for tokens of an agent that is contained.

    They are marked before the graph is locked, for everybody waits for that lock. Should a report hold it and wait for
    one of these rows, the wait for the graph ends, and a job does the rest.
    """
    await store.lock_tcts(conn, sorted(entries))
    await store.mark_tcts(conn, sorted(entries))
    if await lock_within(conn, GRAPH, GRAPH_WAIT_SECS):
        await cascade.settle(conn, (), await graph.find_related(conn, sorted(entries)), ENTERED, urgent=True)
    else:
        await graph.add_work(conn, [Item(jti, entries[jti], urgent=True) for jti in sorted(entries)])


async def settle_next(conn: Connection) -> bool:
    """Settle the next part of what is left, in the caller's transaction; False when another process does."""
    if not await try_lock(conn, SETTLING):
        return False
    await lock(conn, GRAPH)
    await cascade.settle_next(conn, LEFT_OVER)
    return True
