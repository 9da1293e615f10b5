"""Whether an agent may act now: the one place where status and containment decide about its requests."""

from aitp_cp.errors import AgentContained, AgentNotActive
from aitp_cp.registry import contained, store
from aitp_cp.registry.model import Status
from aitp_cp.runtime import Runtime
from aitp_cp_client.wire.aid import Aid


async def require_active(rt: Runtime, aid: Aid) -> None:
    """Raise `AgentContained`, or `AgentNotActive` unless the agent is registered and its manifest has not expired."""
    async with rt.db.connection() as conn:
        status = await store.status_of(conn, aid, rt.clock())
        if status is None:  # an agent that never registered can be contained, too
            await contained.check_free(conn, aid)
    if status == Status.CONTAINED:
        raise AgentContained
    if status != Status.ACTIVE:
        raise AgentNotActive(extra={"status": status or "unregistered"})
