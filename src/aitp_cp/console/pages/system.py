"""This deployment: its processes, jobs, database and settings."""

import time
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.console.page import Region, region, render, screen, wants
from aitp_cp.db import server_time
from aitp_cp.events.tail import Tail
from aitp_cp.ops import store
from aitp_cp.ops.attention import attention
from aitp_cp.ops.deployment import Shown, shown_settings
from aitp_cp.ops.model import AttentionLine, JobView, ReplicaView
from aitp_cp.protocol.scopes import Scope
from aitp_cp.revocation.model import Standing
from aitp_cp.revocation.published import PublishedList
from aitp_cp.runtime import Runtime

SWEEP = "retention.sweep"
# What `aitp-cp check` finds as well, as far as a process knows it while it runs.
FINDINGS = frozenset({"database", "clock", "signer", "list", "unsigned", "keys", "environment-keys", "outbox", "tail"})


class Database(msgspec.Struct, frozen=True):
    """What was measured just now, as text."""

    server: str
    pool: str
    clock: str


class Retention(msgspec.Struct, frozen=True):
    """When rows were last swept, and when the next sweep is due; `last` is None before the first one."""

    enabled: bool
    last: datetime | None
    next: datetime | None


class SystemView(msgspec.Struct, frozen=True):
    answered_by: UUID
    log_position: int
    log_behind: str
    standing: Standing
    signed_ago: str
    database: Region[Database]
    replicas: Region[list[ReplicaView]]
    jobs: Region[list[JobView]]
    retention: Retention
    findings: Region[list[AttentionLine]]
    settings: list[Shown]


async def system(rt: Runtime, request: Request) -> Response:
    tail, standing = rt.get(Tail), rt.get(PublishedList).standing()
    jobs: Region[list[JobView]] = await region(_jobs(rt)) if wants(request, "jobs") else Region(None)
    view = SystemView(
        answered_by=rt.id,
        log_position=tail.last,
        log_behind=f"{tail.behind():.1f} s ago",
        standing=standing,
        signed_ago=f"{standing.age_secs:.0f} s ago",
        database=await region(_database(rt)) if wants(request, "state") else Region(None),
        replicas=await region(_replicas(rt)) if wants(request, "replicas") else Region(None),
        jobs=jobs,
        retention=_retention(rt, jobs.value or []),
        findings=await region(_findings(rt)) if wants(request, "state") else Region(None),
        settings=shown_settings(rt.settings),
    )
    return await render(rt, request, "system.html", view, title="System")


async def _database(rt: Runtime) -> Database:
    started = time.perf_counter()
    async with rt.db.connection() as conn:
        version = await conn.fetchval("SHOW server_version")
        ms = (time.perf_counter() - started) * 1000
        offset = (rt.clock() - await server_time(conn)).total_seconds() * 1000
    pool = f"{ms:.0f} ms · {rt.db.in_use} of {rt.db.max_size} connections in use"
    return Database(f"PostgreSQL {version}", pool, f"{round(offset):+d} ms from the database's")


async def _replicas(rt: Runtime) -> list[ReplicaView]:
    async with rt.db.connection() as conn:
        return await store.replicas(conn)


async def _jobs(rt: Runtime) -> list[JobView]:
    async with rt.db.connection() as conn:
        return await store.jobs(conn)


async def _findings(rt: Runtime) -> list[AttentionLine]:
    return [line for line in (await attention(rt)).lines if line.kind in FINDINGS]


def _retention(rt: Runtime, jobs: list[JobView]) -> Retention:
    last = next((datetime.fromisoformat(job.ran_at) for job in jobs if job.name == SWEEP), None)
    pause = timedelta(milliseconds=rt.settings.retention_interval_ms)
    return Retention(rt.settings.retention_enabled, last, None if last is None else last + pause)


PAGES = (screen("/system", system, scope=Scope.DASHBOARD_READ, nav="System"),)
