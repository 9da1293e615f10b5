"""The act and its end, carried out by one process: the transaction, and what the process must forget after it."""

from aitp_cp.audit.model import Actor
from aitp_cp.containment import service
from aitp_cp.containment.model import NewContainment, Stored
from aitp_cp.db import urgent
from aitp_cp.registry.cache import RegistryCache
from aitp_cp.revocation.published import PublishedList
from aitp_cp.runtime import Runtime


async def contain(rt: Runtime, aid: str, body: NewContainment, actor: Actor) -> Stored | None:
    """Contain an agent; None when it is contained already. Raises `PlanChanged`."""
    try:
        with urgent():
            async with rt.db.transaction() as conn:
                return await service.contain(conn, aid, body, actor, rt.clock())
    finally:
        _changed(rt, aid)


async def release(rt: Runtime, aid: str, reason: str, actor: Actor) -> Stored:
    """End an agent's containment; raises `NotContained` and `Conflict`."""
    try:
        async with rt.db.transaction() as conn:
            return await service.release(conn, aid, reason, actor, rt.clock())
    finally:
        _changed(rt, aid)


def _changed(rt: Runtime, aid: str) -> None:
    """Forget what this process has in memory; after a failure, too: the commit may have happened all the same."""
    rt.get(RegistryCache).changed(aid)
    rt.get(PublishedList).changed()
