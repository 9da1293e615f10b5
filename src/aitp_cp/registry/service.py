"""Moving an agent, and the two ways it leaves the registry (contract, section 8)."""

from datetime import datetime

from aitp_cp.audit import service as audit
from aitp_cp.audit.model import Actor, Change
from aitp_cp.db import Connection
from aitp_cp.errors import existing
from aitp_cp.events import service as log
from aitp_cp.registry import standing, store
from aitp_cp.registry.announce import agent_event
from aitp_cp.registry.lookalikes import skeleton
from aitp_cp.registry.model import AgentView, Deregistered, Status

NO_AGENT = "no such agent"
EXPIRY_BATCH = 500
NAME_BATCH = 500


async def get_agent(conn: Connection, aid: str, now: datetime) -> AgentView:
    """Return the agent's record, whatever its status; raises `NotFound`."""
    return existing(await store.find(conn, aid, now), NO_AGENT)[0]


async def move(conn: Connection, aid: str, namespace: str, actor: Actor, now: datetime) -> AgentView:
    """Put an agent into another namespace; raises `NotFound`.

    The audit row is all there is to see of it: no event of contract section 9 says that a namespace has changed.
    """
    known = existing(await store.lock(conn, aid), NO_AGENT)
    if known.namespace != namespace:
        await store.move(conn, aid, namespace)
        details = {"namespace": namespace, "previousNamespace": known.namespace}
        await audit.record(conn, "agent.update", actor, aid, details, now)
    return await get_agent(conn, aid, now)


async def deregister(conn: Connection, aid: str, actor: Actor, now: datetime) -> Deregistered:
    """Take an agent out of discovery; a second call changes nothing. Raises `NotFound`."""
    if not await deregister_all(conn, [aid], actor, now):
        await get_agent(conn, aid, now)
    return Deregistered(aid, Status.DEREGISTERED)


async def deregister_all(conn: Connection, aids: list[str], actor: Actor, now: datetime) -> list[str]:
    """Take those of the agents out of discovery that are in it, and return them."""
    names = await store.lock_present(conn, aids)
    if not names:
        return []
    await store.deregister(conn, list(names), now)
    changes = [Change(actor, aid, {"displayName": name}) for aid, name in names.items()]
    await audit.record_all(conn, "agent.deregister", changes, now)
    events = [
        agent_event("agent.deregistered", aid, {"reason": "admin_deregister", "displayName": name}, now)
        for aid, name in names.items()
    ]
    await log.append(conn, events, now)
    return list(names)


async def expire_due(conn: Connection, now: datetime) -> int:
    """Expire one batch of agents past their manifest's expiry, with one event each; how many there were."""
    due = await store.expire_due(conn, now, EXPIRY_BATCH)
    events = [
        agent_event(
            "agent.expired",
            agent.aid,
            {"reason": "manifest_expired", "displayName": agent.display_name, "namespace": agent.namespace},
            now,
        )
        for agent in due
    ]
    await log.append(conn, events, now)
    return len(due)


async def read_names(conn: Connection) -> int:
    """Compute what the names of one batch of agents look like; how many there were."""
    names = await standing.unread_names(conn, NAME_BATCH)
    await standing.set_skeletons(conn, {aid: skeleton(name) for aid, name in names.items()})
    return len(names)
