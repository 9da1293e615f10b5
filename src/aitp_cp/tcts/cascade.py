"""Revoke everything below a revoked token, down every chain of delegations (contract, sections 9, 11 and 21).

    changed rows ──> find_open ──> items ──> run: a bounded walk ──> items that are left ──> cascade_work
                                     ^                                                            │
                                     └────────────── settle_next, by a job ──────────────────────┘

An item is a revoked token or delegation whose children are not all settled. A delegation is settled when it is revoked
since the earliest revocation of itself or of anything above it. At every commit, each child of something revoked is
settled, or an item stands for its parent. So the rows are right once no item is left, whatever the order of the items.
Every function here needs the graph lock.
"""

import time
from collections.abc import Iterable, Sequence
from uuid import UUID

from aitp_cp.db import Connection
from aitp_cp.tcts import graph, store
from aitp_cp.tcts.model import Budget, Item, Reached

# Rows that one step walks at most: 25 to 75 ms under the graph lock.
STEP_ROWS = 500
# Items that one step expands together.
STEP_ITEMS = 200


async def settle(
    conn: Connection, delegations: Iterable[UUID], revoked: Iterable[UUID], budget: Budget, *, urgent: bool
) -> None:
    """Settle what lies below `delegations`, just written, and `revoked`, whose revocation is new or became earlier.

    Does as much as `budget` allows and leaves the rest to `settle_next`; an `urgent` rest goes before all others.
    """
    revoked = set(revoked)
    touched = sorted({*delegations, *revoked})
    if not touched:
        return
    changed = await graph.mark_touched(conn, touched)
    sources = sorted({*changed, *revoked})
    items = await graph.find_open(conn, sources, urgent=urgent) if sources else []
    if items:
        await graph.add_work(conn, await run(conn, items, budget))


async def settle_next(conn: Connection, budget: Budget) -> None:
    """Settle the first items of `cascade_work`."""
    items = await graph.pick_work(conn, STEP_ITEMS)
    # An entry that did not wait for the graph lock has not even marked its own rows.
    await store.mark_tcts(conn, jtis := sorted(item.jti for item in items))
    await graph.mark_touched(conn, jtis)
    left = await run(conn, items, budget)
    await graph.delete_work(conn, items)
    await graph.add_work(conn, left)


async def run(conn: Connection, items: Sequence[Item], budget: Budget) -> list[Item]:
    """Walk down from `items` until nothing is left, or no budget; return the items that remain."""
    ends_at = time.monotonic() + budget.secs
    rows, left = budget.rows, _distinct(items)
    while left and rows > 0 and time.monotonic() < ends_at:
        left, walked = await _step(conn, left, min(rows, STEP_ROWS))
        rows -= max(1, walked)
    return left


async def _step(conn: Connection, items: list[Item], rows: int) -> tuple[list[Item], int]:
    """Do one bounded walk; return the items that remain and how many rows it took.

    Items of several times are walked together, which is quick when their subtrees are apart. If the walk does not end
    within `rows`, the earliest time goes first: then no delegation is settled twice.
    """
    ordered = sorted(items, key=lambda item: (not item.urgent, item.since, item.jti))
    urgent = ordered[0].urgent
    current = [item for item in ordered[:STEP_ITEMS] if item.urgent == urgent]
    later = ordered[len(current) :]
    children = await graph.expand(conn, current, max(1, rows // len(current)))
    starts = [start for child in children for start in child.open]
    reached = await graph.reach(conn, starts, limit := max(rows, len(starts)))
    walked = len(reached) + sum(child.count for child in children)
    if len(reached) >= limit and len({start.since for start in starts}) > 1:
        earliest = min(start.since for start in starts)
        later += [item for item in current if item.since > earliest]
        children = [child for child in children if child.item.since <= earliest]
        reached = await graph.reach(conn, [start for start in starts if start.since == earliest], limit)
        walked += len(reached)
    earliest_of_each = _earliest(reached)
    await graph.mark_reached(conn, earliest_of_each)
    wide = await graph.find_wide(conn, earliest_of_each, urgent=urgent)
    unfinished = [following for child in children if (following := child.following()) is not None]
    return _distinct([*unfinished, *wide, *later]), walked


def _earliest(reached: Sequence[Reached]) -> list[Reached]:
    """Return each delegation once, with the earliest time at which it was reached."""
    latest_first = sorted(reached, key=lambda row: row.since, reverse=True)
    return list({row.jti: row for row in latest_first}.values())


def _distinct(items: Iterable[Item]) -> list[Item]:
    by_jti: dict[UUID, Item] = {}
    for item in items:
        known = by_jti.get(item.jti)
        by_jti[item.jti] = item if known is None else known.joined(item)
    return list(by_jti.values())
