"""The act and its end, carried out by one process: the transaction, and what the process must forget after it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from aitp_cp.audit.model import Actor
from aitp_cp.containment import service
from aitp_cp.containment.model import NewContainment, Stored
from aitp_cp.db import Connection, urgent
from aitp_cp.errors import Conflict
from aitp_cp.registry.cache import RegistryCache
from aitp_cp.revocation.published import PublishedList
from aitp_cp.runtime import Runtime

MAX_ATTEMPTS = 5  # a failed one lasts a second longer: the server looks for deadlocks as often


async def contain(rt: Runtime, aid: str, body: NewContainment, actor: Actor) -> Stored | None:
    """Contain an agent; None when it is contained already. Raises `PlanChanged` and `Conflict`.

    A report that names one of its tokens as another agent's can deadlock with it: then it runs again.
    """
    for _ in range(MAX_ATTEMPTS):
        with suppress(Conflict), urgent():
            async with _transaction(rt, aid) as conn:
                return await service.contain(conn, aid, body, actor, rt.clock())
    raise Conflict(headers={"Retry-After": "1"})


async def release(rt: Runtime, aid: str, reason: str, actor: Actor) -> Stored:
    """End an agent's containment; raises `NotContained` and `Conflict`."""
    async with _transaction(rt, aid) as conn:
        return await service.release(conn, aid, reason, actor, rt.clock())


@asynccontextmanager
async def _transaction(rt: Runtime, aid: str) -> AsyncIterator[Connection]:
    """Then forget, after a failure, too, what this process has in memory: the agent and the signed list."""
    try:
        async with rt.get(RegistryCache).changing(aid) as conn:
            yield conn
    finally:
        rt.get(PublishedList).changed()
