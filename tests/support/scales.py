"""The table of docs/capacity.md: how far three set-ups carry, by the model of `aitp-cp plan`."""

from dataclasses import dataclass

from aitp_cp.cli.capacity import BUSY, MEASURED, Load, Needs, needs
from aitp_cp.cli.plan import size

NETWORK = 100e6  # bytes a second: a machine's port of 1 Gbit/s


@dataclass(frozen=True)
class SetUp:
    """Cores of the machines that run processes and of the one with PostgreSQL; `shared`: one machine for both."""

    name: str
    processes: int
    cores: float
    database: float
    disk: float  # of PostgreSQL, without its write-ahead log
    shared: bool = False


SET_UPS = (
    SetUp("one small machine: 2 cores, 4 GB, 500 GB of disk", 2, 2, 2, 0.5e12, shared=True),
    SetUp("one large machine: 16 cores, 64 GB, 8 TB of disk", 8, 16, 16, 8e12, shared=True),
    SetUp("8 replicas of 2 cores; PostgreSQL with 32 cores and 60 TB", 16, 16, 32, 60e12),
)


@dataclass(frozen=True)
class Use:
    """How the set-up is used."""

    name: str
    handshake_secs: int  # how often an agent shakes hands, which is ten events
    cached: bool  # whether a cache serves the signed list, which each agent fetches every minute
    retention_days: int


USES = (
    Use("a handshake per agent and hour", 3600, False, 90),
    Use("the same, with a cache for the signed list", 3600, True, 90),
    Use("the same, and 7 days of events", 3600, True, 7),
)


def load(set_up: SetUp, use: Use, agents: int) -> Load:
    return Load(
        agents=agents,
        events_per_second=10 * agents / use.handshake_secs,
        polling_peers=0 if use.cached else agents,
        reads_per_second=1 + agents / 10_000,
        retention_days=use.retention_days,
        replicas=set_up.processes,
    )


def disk(need: Needs) -> float:
    """Return the bytes at the end of the first year."""
    return need.events_disk + need.kept_disk_per_year + need.agents_disk


def limits(set_up: SetUp, need: Needs) -> dict[str, float]:
    """Return how much of each limit is used: 1 is all of it."""
    cores = {"cores": (need.process_cores + need.database_cores) / (BUSY * set_up.cores)}
    if not set_up.shared:
        cores = {
            "cores of the replicas": need.process_cores / (BUSY * set_up.cores),
            "cores of PostgreSQL": need.database_cores / (BUSY * set_up.database),
        }
    others = {"the log": need.log_share / BUSY, "the network": need.egress / NETWORK, "disk": disk(need) / set_up.disk}
    return {**cores, **others}


def most(set_up: SetUp, use: Use) -> tuple[Load, Needs, str]:
    """Return the largest load that fits, what it needs, and the limit that it meets."""
    low, high = 1, 10**9
    while high - low > max(1, low // 1000):
        middle = (low + high) // 2
        need = needs(load(set_up, use, middle), fixed=True)
        low, high = (middle, high) if max(limits(set_up, need).values()) <= 1 else (low, middle)
    asked = load(set_up, use, low)
    need = needs(asked, fixed=True)
    used = limits(set_up, need)
    return asked, need, max(used, key=lambda name: used[name])


def table() -> str:
    """Return the table in Markdown; numbers are rounded to two digits, because the model is no better."""
    lines = [
        "| set-up | use | agents | events a second | disk, first year | first limit |",
        "|---|---|---|---|---|---|",
    ]
    for set_up in SET_UPS:
        for use in USES:
            asked, need, limit = most(set_up, use)
            cells = (
                set_up.name,
                use.name,
                _rounded(asked.agents),
                _rounded(asked.events_per_second),
                size(float(f"{disk(need):.2g}")),
                limit,
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def costs() -> str:
    """Return the costs that the model computes with, as a table in Markdown."""
    lines = ["| of | control plane | PostgreSQL |", "|---|---|---|"]
    for what, own, database in COSTS:
        lines.append(f"| {what} | {_micros(own)} | {_micros(database)} |")
    return "\n".join(lines)


COSTS = (
    ("a process without any load, each second", MEASURED.idle, MEASURED.idle_db),
    ("a report, whatever it holds", MEASURED.request, MEASURED.request_db),
    ("each event in it", MEASURED.event, MEASURED.event_db),
    ("each signed token in it that is new", MEASURED.token, None),
    ("each event, in every other process", MEASURED.follow, MEASURED.follow_db),
    ("a report, for each stream", MEASURED.wake, None),
    ("each event in it, for each stream", MEASURED.frame, None),
    ("a fetch of the signed list of 1,000 entries", MEASURED.poll + 71_450 * MEASURED.poll_byte, None),
    ("enrolment and registration of an agent", MEASURED.registration, MEASURED.registration_db),
    ("a page of 100 events", MEASURED.read, MEASURED.read_db),
)


def _micros(secs: float | None) -> str:
    return "" if secs is None else f"{float(f'{secs * 1e6:.2g}'):,.0f} µs" if secs > 9.5e-6 else f"{secs * 1e6:.1f} µs"


def _rounded(number: float) -> str:
    return f"{int(float(f'{number:.2g}')):,}"
