"""Reading the registry, moving an agent, and the two ways it leaves (contract, section 8)."""

from collections.abc import Collection
from datetime import datetime

from aitp_cp.audit import service as audit
from aitp_cp.audit.model import Actor, Change
from aitp_cp.db import Connection
from aitp_cp.db.keyset import Window
from aitp_cp.errors import NotFound, existing
from aitp_cp.events import service as log
from aitp_cp.registry import queries, store
from aitp_cp.registry.announce import agent_event
from aitp_cp.registry.lookalikes import skeleton
from aitp_cp.registry.model import AgentList, AgentView, Deregistered, ListFilter, Namesake, Status, StoredText
from aitp_cp.registry.store import names as names

EXPIRY_BATCH = 500
NAME_BATCH = 500


async def list_agents(
    conn: Connection, filter: ListFilter, now: datetime, window: Window
) -> tuple[AgentList, datetime | None]:
    """Return a page ordered by registration, and when the first of its manifests expires."""
    return await store.list_agents(conn, filter, now, window)


async def get_agent(conn: Connection, aid: str, now: datetime) -> AgentView:
    """Return the agent's record, whatever its status; raises `NotFound`."""
    return (await get_expiring(conn, aid, now))[0]


async def status_of(conn: Connection, aid: str, now: datetime) -> str | None:
    """Return the agent's status, None for an agent that never registered."""
    return await store.status_of(conn, aid, now)


async def get_expiring(conn: Connection, aid: str, now: datetime) -> tuple[AgentView, datetime | None]:
    """Return the same, with the time its manifest expires."""
    return existing(await store.find(conn, aid, now), "no such agent")


async def find_all(conn: Connection, aids: list[str], now: datetime) -> list[AgentView]:
    """Return those of the agents that are known, in the order of AIDs."""
    return await store.find_all(conn, aids, now)


async def get_manifest(conn: Connection, aid: str, now: datetime) -> StoredText:
    """Return the manifest exactly as registered; raises `NotFound`."""
    return existing(await store.manifest_text(conn, aid, now), "no such agent")


async def move(conn: Connection, aid: str, namespace: str, actor: Actor, now: datetime) -> AgentView:
    """Put an agent into another namespace; raises `NotFound`.

    The audit row is all there is to see of it: no event of contract section 9 says that a namespace has changed.
    """
    known = existing(await store.lock(conn, aid), "no such agent")
    if known.namespace != namespace:
        await store.move(conn, aid, namespace)
        details = {"namespace": namespace, "previousNamespace": known.namespace}
        await audit.record(conn, "agent.update", actor, aid, details, now)
    return await get_agent(conn, aid, now)


async def deregister(conn: Connection, aid: str, actor: Actor, now: datetime) -> Deregistered:
    """Take an agent out of discovery; a second call changes nothing. Raises `NotFound`."""
    if not await deregister_all(conn, [aid], actor, now) and await store.status_of(conn, aid, now) is None:
        raise NotFound("no such agent")
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
    names = await queries.unread_names(conn, NAME_BATCH)
    await queries.set_skeletons(conn, {aid: skeleton(name) for aid, name in names.items()})
    return len(names)


async def namesakes(conn: Connection, name: str, aid: str, now: datetime, limit: int = 20) -> list[Namesake]:
    """Return agents other than `aid` whose name looks like this one, in the order of AIDs."""
    return await queries.namesakes(conn, name, aid, now, limit)


async def have_namesakes(conn: Connection, aids: Collection[str]) -> set[str]:
    """Return those of the agents whose name looks like that of another one."""
    return await queries.have_namesakes(conn, aids) if aids else set()
