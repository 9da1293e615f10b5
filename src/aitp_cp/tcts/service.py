"""Reported tokens and delegations: writing what reports say, and reading it (contract, sections 9 to 11)."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from aitp_cp.db import Connection
from aitp_cp.protocol.reports import Report
from aitp_cp.tcts import cascade, queries, store
from aitp_cp.tcts.model import DelegationFilter, DelegationList, TctFilter, TctList
from aitp_cp.tcts.projection import changes_from
from aitp_cp.tcts.queries import TctPage, TctPlace


async def project(conn: Connection, reports: Sequence[Report], now: datetime) -> None:
    """Merge what `reports` say into the tables; order, repetition and division into batches never show.

    Must come before any other row lock of the transaction. Lock order: the graph lock, rows in key order, the log lock.
    """
    changes = changes_from(reports)
    if not (changes.tcts or changes.delegations or changes.revocations):
        return
    await store.lock_graph(conn, exclusive=bool(changes.delegations or changes.revocations))
    if changes.revocations:
        await store.remember_revocations(conn, changes.revocations, now)
    if changes.tcts:
        await store.merge_tcts(conn, changes.tcts, now)
    if changes.delegations:
        await store.merge_delegations(conn, changes.delegations, now)
    await cascade.settle(
        conn,
        tcts=[change.jti for change in changes.tcts],
        delegations=[change.jti for change in changes.delegations],
        revoked=[change.jti for change in changes.revocations],
    )


async def revoke(conn: Connection, jti: UUID) -> None:
    """Let the deny list's entry, which the caller has just inserted, take effect on tokens and delegations."""
    await store.lock_graph(conn, exclusive=True)
    await cascade.settle(conn, tcts=[jti], delegations=[jti], revoked=[jti])


async def list_tcts(conn: Connection, wanted: TctFilter, limit: int, offset: int) -> TctList:
    """One page, newest issued first."""
    return TctList(await queries.list_tcts(conn, wanted, limit, offset))


async def tcts_of_session(conn: Connection, session_id: str, after: TctPlace | None, limit: int) -> TctPage:
    """The next tokens reported with a session, newest issued first, and where to go on."""
    return await queries.tcts_of_session(conn, session_id, after, limit)


async def tcts_of_agent(conn: Connection, aid: str, after: TctPlace | None, limit: int) -> TctPage:
    """The next tokens that an agent issued or holds, newest issued first, and where to go on."""
    return await queries.tcts_of_agent(conn, aid, after, limit)


async def list_delegations(conn: Connection, wanted: DelegationFilter, limit: int, offset: int) -> DelegationList:
    """One page, newest issued first."""
    return DelegationList(await queries.list_delegations(conn, wanted, limit, offset))


async def delegation_tree(conn: Connection, root: UUID, active_at: datetime | None) -> DelegationList:
    """Everything delegated from a token or delegation, the latter included, oldest first.

    At most 1000 rows and 32 levels, the upper levels first; `active_at` leaves out what is revoked or expired then.
    """
    return DelegationList(await queries.tree(conn, root, active_at))
