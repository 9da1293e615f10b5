"""One run: load and faults together, then calm, then the reckoning."""

import asyncio
import pickle
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import asyncpg

from tests.torture import checks_access, checks_admin, checks_contained, checks_log, truth
from tests.torture.clients import PATIENCE_SECS, Clients
from tests.torture.doors import try_doors
from tests.torture.faults import HURRY, Faults, Pace
from tests.torture.load import Load
from tests.torture.load_access import Doors
from tests.torture.load_agents import confirm_all
from tests.torture.readers import Readers, readings
from tests.torture.record import Finding, Hook, Record
from tests.torture.roles import roles
from tests.torture.truth import Truth
from tests.torture.world import SECRET, World, opened

CALM_SECS = 120.0
DRAIN_SECS = 600.0
UNFINISHED = """
SELECT (
    SELECT count(*) FROM webhook_deliveries AS d JOIN webhooks AS w ON w.id = d.webhook_id
    WHERE w.active AND d.status NOT IN ('delivered', 'failed')
) + (SELECT max(seq) FROM audit_events) - (SELECT enqueued_through FROM webhook_outbox)
"""
# With no process left, nobody holds a lease any more.
END_LEASES = "UPDATE webhook_deliveries SET lease_until = now() WHERE lease_until > now()"

Say = Callable[[str], None]


class Plan(NamedTuple):
    """`dsn` names a migrated database to use instead of a Postgres of its own.

    Without `faults` the run is quiet, and goes on until there is `enough`.
    """

    seed: int
    secs: float
    events_per_sec: float
    replicas: int = 2
    faults: Pace | None = None
    enough: Callable[[Record], bool] = bool
    dsn: str | None = None


class Outcome(NamedTuple):
    record: Record
    truth: Truth
    findings: list[Finding]


async def run(plan: Plan, folder: Path, say: Say = lambda _: None) -> Outcome:
    """Everything; what was collected is kept in `folder`, beside the logs."""
    record = Record(plan.seed, readings=readings())
    async with opened(folder, record, plan.replicas, plan.dsn) as world:
        say("running")
        await torture(world, record, plan, say)
        found = await settle(world, record, say)
        for replica in world.replicas:
            for line in replica.errors():
                record.complain("replicas", "wrong", f"the log of replica {replica.number} says: {line}")
    findings = reckon(record, found)
    (folder / "record.pickle").write_bytes(pickle.dumps((record, found)))
    return Outcome(record, found, findings)


def reckon(record: Record, found: Truth) -> list[Finding]:
    """Everything that is not as it was acknowledged; pure, so that it can be tried on doctored records."""
    rooms = (checks_log, checks_admin, checks_access, checks_contained)
    checks = [check for room in rooms for check in room.CHECKS]
    return [*record.complaints, *(finding for check in checks for finding in check(record, found))]


async def torture(world: World, record: Record, plan: Plan, say: Say) -> None:
    """Load and faults for the time of the plan; when it returns, every client has had its last answer."""
    async with AsyncExitStack() as stack:
        clients = Clients([replica.port for replica in world.replicas], record)
        stack.push_async_callback(clients.close)
        load = Load(clients, record, [one.url for one in world.receivers.open])
        await _subscribe(load, world)
        readers = Readers(clients, record)
        readers.start()
        stack.push_async_callback(readers.stop)
        watching = asyncio.create_task(Doors(clients, record).watch())
        stack.callback(watching.cancel)
        loading = asyncio.create_task(load.run(roles(plan.events_per_sec)))
        stack.callback(loading.cancel)
        if plan.faults is None:
            await _quiet(record, plan)
        else:
            await Faults(world, record, plan.faults).run(plan.secs)
        say("mended; clients wait for their last answers")
        clients.deadline = asyncio.get_running_loop().time() + PATIENCE_SECS
        load.over.set()
        await loading
        await confirm_all(load, random.Random(f"{record.seed}/peers"))
        say("readers read to the end")
        readers.calm()
        await _until_read(world, record)


async def _quiet(record: Record, plan: Plan) -> None:
    await asyncio.sleep(plan.secs)
    async with asyncio.timeout(PATIENCE_SECS):
        while not plan.enough(record):
            await asyncio.sleep(0.05)


async def _subscribe(load: Load, world: World) -> None:
    """Webhooks that are there from before the first event to the end."""
    wanted: tuple[list[str], ...] = (
        [],
        ["handshake.failed", "tct.revoked"],
        ["agent.registered", "handshake.complete"],
    )
    for receiver, events in zip(world.receivers.open, wanted, strict=True):
        hook = Hook(f"{receiver.url}/kept", events, keyed=True)
        load.record.hooks[hook.url] = hook
        await load.create(hook, random.Random(0), SECRET)


async def _until_read(world: World, record: Record) -> None:
    """Give every reader the time to get the last event; who does not is found out later."""
    found = await truth.read(world.dsn, [])
    ends = {
        one.name: max((row["seq"] for row in found.events if checks_log.passes(one.wanted, row)), default=0)
        for one in record.readings
    }
    try:
        async with asyncio.timeout(CALM_SECS):
            while any((one.last or 0) < ends[one.name] for one in record.readings):
                await asyncio.sleep(0.05)
    except TimeoutError:
        return


async def settle(world: World, record: Record, say: Say) -> Truth:
    """The lists as the survivors serve them; then new processes bring every delivery to its end."""
    say("replicas stop and start again")
    for replica in world.replicas:
        await replica.ready()
    lists = [await truth.read_list(replica.port) for replica in world.replicas]
    doors = await try_doors(record, [replica.port for replica in world.replicas])
    for replica in world.replicas:
        await replica.terminate()
    await world.sql(END_LEASES)
    await world.sql(HURRY)
    for replica in world.replicas:
        replica.start()
    for replica in world.replicas:
        await replica.ready()
    say("deliveries come to their end")
    await _drain(world, record)
    say("reckoning")
    found = await truth.read(world.dsn, [])
    found.lists, found.doors = lists, doors
    found.reach = await truth.read_reach(world.replicas[0].port, [row["id"] for row in found.containments])
    return found


async def _drain(world: World, record: Record) -> None:
    conn = await asyncpg.connect(world.dsn)
    try:
        async with asyncio.timeout(DRAIN_SECS):
            while left := await conn.fetchval(UNFINISHED):
                await conn.execute(HURRY)
                await asyncio.sleep(0.5)
    except TimeoutError:
        record.complain("deliveries", "lost", f"{left} deliveries have not come to an end after {DRAIN_SECS:.0f} s")
    finally:
        await conn.close()
