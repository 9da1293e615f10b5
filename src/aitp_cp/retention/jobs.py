"""Sweep at boot and at each interval, one replica at a time."""

from aitp_cp.jobs import Job
from aitp_cp.retention import service
from aitp_cp.runtime import Runtime
from aitp_cp.settings import Settings


async def sweep_once(rt: Runtime) -> None:
    if not rt.settings.retention_enabled:
        return
    async with rt.db.transaction() as conn:
        swept = await service.sweep(conn, rt.settings, await service.moment(conn, rt.clock()))
    for table, rows in (swept or {}).items():
        rt.metrics.retention_rows.labels(table=table).inc(rows)


def jobs(settings: Settings) -> tuple[Job, ...]:
    return (Job("retention.sweep", settings.retention_interval_ms / 1000, sweep_once),)
