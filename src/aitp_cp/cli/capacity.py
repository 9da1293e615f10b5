"""What a deployment needs, computed from what was measured: `aitp-cp plan` and docs/capacity.md.

`python -m bench.capacity` measures the costs on a machine, and how far a synthetic load is from this model.
"""

import math
from dataclasses import dataclass

MOST_PROCESSES = 10_000  # where no number would do
DAY = 86_400
YEAR_DAYS = 365
BUSY = 0.7  # of a core: above it latencies grow faster than the load


@dataclass(frozen=True)
class Costs:
    """Seconds of one core of the measured machine, and bytes. `db` is PostgreSQL's share, the rest the process's."""

    idle: float = 0.008  # each process, per second
    idle_db: float = 0.005
    request: float = 1100e-6  # a report, whatever it holds
    request_db: float = 1000e-6
    event: float = 65e-6  # of a batch, ten of them being a handshake with two tokens
    event_db: float = 75e-6
    token: float = 140e-6  # a signed token that the process has not seen yet
    follow: float = 27e-6  # an event, in each process that did not write it
    follow_db: float = 8e-6
    wake: float = 23e-6  # a report that reaches one stream
    frame: float = 2.3e-6  # an event of it
    poll: float = 130e-6  # the signed list, besides its bytes
    poll_byte: float = 0.4e-9
    registration: float = 1800e-6
    registration_db: float = 2000e-6
    read: float = 880e-6  # a page of 100 rows
    read_db: float = 620e-6
    event_bytes: float = 640.0  # on disk, with indexes
    kept_bytes: float = 320.0  # for each event, of sessions and tokens, which are never swept
    wal_bytes: float = 2100.0
    agent_bytes: float = 6000.0
    list_entry_bytes: float = 71.0
    list_bytes: float = 450.0
    process_bytes: float = 150e6
    stream_bytes: float = 20e3


MEASURED = Costs()
# Beyond this one log takes no more, however many replicas there are: it appends one group at a time.
LOG_EVENTS_PER_SEC = 10_000


@dataclass(frozen=True)
class Load:
    """What callers do, on average over the busiest hour."""

    agents: int
    events_per_second: float
    batch: int = 50
    tokens_share: float = 0.2  # new signed tokens per event
    streams: int = 10
    polling_peers: int = 0
    poll_secs: float = 60.0
    revocations: int = 1000
    reads_per_second: float = 1.0
    manifest_hours: float = 24.0
    retention_days: int = 90
    replicas: int = 2
    pool: int = 20


@dataclass(frozen=True)
class Needs:
    """Cores in use, bytes, and bytes a second, of the whole deployment."""

    process_cores: float
    database_cores: float
    processes: int  # so that none is busier than `BUSY`
    events_disk: float
    kept_disk_per_year: float
    agents_disk: float
    wal_per_day: float
    egress: float
    memory_per_process: float
    connections: int
    log_share: float  # of what one log takes
    stream_share: float  # of the processes' work


def needs(load: Load, costs: Costs = MEASURED, *, fixed: bool = False) -> Needs:
    """Return what the load needs, with more processes than `replicas` unless their number is `fixed`.

    The processes' work grows with their number, because each follows the whole log.
    """
    processes, cores = load.replicas, _process_cores(load, load.replicas, costs)
    while not fixed and cores / processes > BUSY and processes < MOST_PROCESSES:
        processes = max(processes + 1, math.floor(cores / BUSY))
        cores = _process_cores(load, processes, costs)
    events = load.events_per_second
    return Needs(
        process_cores=cores,
        database_cores=_database_cores(load, processes, costs),
        processes=processes,
        events_disk=events * DAY * load.retention_days * costs.event_bytes,
        kept_disk_per_year=events * DAY * YEAR_DAYS * costs.kept_bytes,
        agents_disk=load.agents * costs.agent_bytes,
        wal_per_day=events * DAY * costs.wal_bytes,
        egress=polled_bytes(load, costs) + events * load.streams * 500,
        memory_per_process=costs.process_bytes + load.streams / processes * costs.stream_bytes,
        connections=processes * (load.pool + 1),
        log_share=events / LOG_EVENTS_PER_SEC,
        stream_share=_stream_cores(load, costs) / cores,
    )


def polled_bytes(load: Load, costs: Costs = MEASURED) -> float:
    """Return how much of the signed list leaves in a second."""
    return _polls(load) * (costs.list_bytes + load.revocations * costs.list_entry_bytes)


def _polls(load: Load) -> float:
    return load.polling_peers / load.poll_secs


def _registrations(load: Load) -> float:
    return load.agents / (load.manifest_hours * 3600)


def _stream_cores(load: Load, costs: Costs) -> float:
    return load.events_per_second * load.streams * (costs.frame + costs.wake / load.batch)


def _process_cores(load: Load, processes: int, costs: Costs) -> float:
    events = load.events_per_second
    return (
        processes * costs.idle
        + events * (costs.event + costs.request / load.batch + load.tokens_share * costs.token)
        + events * (processes - 1) * costs.follow
        + _stream_cores(load, costs)
        + _polls(load) * costs.poll
        + polled_bytes(load, costs) * costs.poll_byte
        + _registrations(load) * costs.registration
        + load.reads_per_second * costs.read
    )


def _database_cores(load: Load, processes: int, costs: Costs) -> float:
    events = load.events_per_second
    return (
        processes * costs.idle_db
        + events * (costs.event_db + costs.request_db / load.batch)
        + events * (processes - 1) * costs.follow_db
        + _registrations(load) * costs.registration_db
        + load.reads_per_second * costs.read_db
    )
