"""Answers to probes, and what is known of processes and jobs."""

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec


class Health(msgspec.Struct, frozen=True):
    ok: bool
    service: str
    aid: str
    db: str


class Alive(msgspec.Struct, frozen=True):
    ok: bool


class Readiness(msgspec.Struct, frozen=True, omit_defaults=True):
    ready: bool
    reason: str | None = None


Severity = Literal["bad", "soon"]


class AttentionLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing to look at: `target` is the page of the console that shows it."""

    severity: Severity
    kind: str
    sentence: str
    target: str
    since: str | None = None
    count: int | None = None


class Attention(msgspec.Struct, frozen=True, rename="camel"):
    """Worst first; `unknown` are sources that could not be asked, so their lines may be missing."""

    lines: list[AttentionLine]
    unknown: list[str]
    as_of: str


class Beat(msgspec.Struct, frozen=True):
    """What a process writes of itself: no address, and nothing that an operator would not show."""

    id: UUID
    version: str
    started_at: datetime
    position: int
    lag_ms: int


class ReplicaView(msgspec.Struct, frozen=True, rename="camel"):
    """One process: `position` is the last event that it has read, `lag_secs` ago it had read the log to its end."""

    id: UUID
    version: str
    started_at: str
    seen_at: str
    live: bool  # it was seen within the last 35 s
    position: int
    behind: int  # positions of the log that some other process has read and this one has not
    lag_secs: float


class ReplicaList(msgspec.Struct, frozen=True, rename="camel"):
    """`answered_by` is the process that answered."""

    replicas: list[ReplicaView]
    answered_by: UUID


class JobView(msgspec.Struct, frozen=True, rename="camel"):
    """The latest run of a job by any process; `failed_at` and `error` are of its latest failure."""

    name: str
    ran_at: str
    ms: int
    replica: UUID
    failing: bool  # the latest run failed
    failed_at: str | None
    error: str | None  # an error code or the class of an exception; the log has the rest


class JobList(msgspec.Struct, frozen=True):
    jobs: list[JobView]
