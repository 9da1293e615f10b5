"""How far a revocation reaches: down every chain of delegations (contract, sections 9 and 11)."""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from aitp_cp.db import Connection
from aitp_cp.tcts import store
from aitp_cp.tcts.model import Affected, Revoked


async def settle(conn: Connection, tcts: Iterable[UUID], delegations: Iterable[UUID], revoked: Iterable[UUID]) -> None:
    """Bring the stored tokens in line after `tcts` and `delegations` were written and `revoked` was remembered.

    A delegation is revoked since the earliest revocation of itself or of anything above it, `explicit` when it was
    revoked itself. The caller holds the graph lock (`store.lock_graph`).
    """
    revoked = sorted(revoked)
    await store.mark_tcts(conn, sorted({*tcts, *revoked}))
    touched = sorted({*delegations, *revoked})
    if touched and (reached := spread(await store.find_affected(conn, touched, revoked))):
        await store.mark_delegations(conn, reached)


def spread(affected: Sequence[Affected]) -> list[Revoked]:
    """Who is revoked since when, in key order: each the earliest cause among itself and its ancestors.

    Visits causes from the earliest on, so each delegation is settled once, however its chains branch or close.
    """
    children: defaultdict[UUID, list[UUID]] = defaultdict(list)
    for delegation in affected:
        for parent in delegation.parents:
            children[parent].append(delegation.jti)
    due: list[tuple[datetime, UUID]] = [(found.cause_at, found.jti) for found in affected if found.cause_at is not None]
    heapq.heapify(due)
    settled: dict[UUID, datetime] = {}
    while due:
        at, jti = heapq.heappop(due)
        if jti not in settled:
            settled[jti] = at
            for child in children[jti]:
                heapq.heappush(due, (at, child))
    explicit = {delegation.jti for delegation in affected if delegation.explicit}
    return [Revoked(jti, settled[jti], jti in explicit) for jti in sorted(settled)]
