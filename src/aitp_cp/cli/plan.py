"""aitp-cp plan: what a load needs, and which limit it meets first."""

from collections.abc import Iterator

from rich.table import Table

from aitp_cp.cli.capacity import BUSY, LOG_EVENTS_PER_SEC, Load, Needs, needs, polled_bytes
from aitp_cp_client.commands.output import out

EDGE_BYTES_PER_SEC = 50e6  # beyond this a cache in front of the signed list is cheaper than processes
STREAMS_PER_PROCESS = 500  # MAX_SSE_CONNECTIONS
CONNECTIONS = 100  # max_connections of a PostgreSQL that nobody has changed
UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def plan(load: Load) -> None:
    """Print what the load needs and what to do where it meets a limit."""
    need = needs(load)
    table = Table("what", "needed")
    for what, amount in _amounts(load, need):
        table.add_row(what, amount)
    out.print(table)
    for advice in advise(load, need) or ["No limit is near: the defaults carry this."]:
        out.print(f"- {advice}", highlight=False)


def _amounts(load: Load, need: Needs) -> Iterator[tuple[str, str]]:
    yield "cores, control plane", f"{need.process_cores:.2f} in {need.processes} processes"
    yield "cores, PostgreSQL", f"{need.database_cores:.2f}"
    yield "memory, each process", size(need.memory_per_process)
    yield f"disk, events of {load.retention_days} days", size(need.events_disk)
    yield "disk, sessions and tokens, more each year", size(need.kept_disk_per_year)
    yield "disk, agents", size(need.agents_disk)
    yield "write-ahead log a day, also to each standby", size(need.wal_per_day)
    yield "network out", f"{size(need.egress)}/s"
    yield "connections to PostgreSQL", str(need.connections)


def advise(load: Load, need: Needs) -> list[str]:
    """Return a sentence for each limit that the load meets, the hardest first."""
    rules = (
        (
            need.log_share > BUSY,
            f"One log takes about {LOG_EVENTS_PER_SEC:,} events/s: larger batches, a faster disk and fewer types of "
            "events help, replicas do not; beyond it run a control plane per namespace.",
        ),
        (
            need.processes > load.replicas,
            f"{load.replicas} processes would be busier than {BUSY:.0%}: run {need.processes}, "
            "on one machine with serve --workers.",
        ),
        (
            need.connections > CONNECTIONS,
            f"PostgreSQL allows {CONNECTIONS} connections by default: raise max_connections or lower DB_POOL_MAX.",
        ),
        (
            polled_bytes(load) > EDGE_BYTES_PER_SEC,
            "Most of the network is the signed list, which changes every minute: put a cache in front of it "
            "(max-age=60), or let peers poll less often.",
        ),
        (
            load.streams > need.processes * STREAMS_PER_PROCESS,
            f"A process takes {STREAMS_PER_PROCESS} streams by default: raise MAX_SSE_CONNECTIONS and SSE_PER_CALLER.",
        ),
        (
            need.stream_share > 0.5 and need.processes > 1,
            "Most of the work is for event streams: let them filter by type, run or agent.",
        ),
        (
            need.database_cores > 4,
            "PostgreSQL needs a machine of its own; lists, exports and the dashboard can read a standby "
            "(DATABASE_READ_URL).",
        ),
        (
            need.events_disk > 1e12,
            "Shorten AUDIT_EVENTS_TTL_DAYS, and export the events that must be kept longer.",
        ),
        (
            need.kept_disk_per_year > 1e12,
            "Sessions and tokens are never swept: plan the disk for the years to come.",
        ),
    )
    return [advice for met, advice in rules if met]


def size(amount: float) -> str:
    """Return bytes for people, with two or three digits."""
    for unit, name in UNITS:
        if amount >= unit:
            return f"{amount / unit:.3g} {name}"
    return f"{amount:.0f} B"
