"""Refresh the gauges of /api/metrics, so that a scrape needs no database; say that this process lives."""

from aitp_cp.jobs import Job
from aitp_cp.ops import store
from aitp_cp.ops.figures import Figures
from aitp_cp.ops.health import DatabaseProbe
from aitp_cp.ops.heartbeat import Heartbeat
from aitp_cp.runtime import Runtime

EVERY_SECS = 10


async def refresh(rt: Runtime) -> None:
    rt.get(Figures).show_pool()
    await rt.get(DatabaseProbe).up()  # so that a scrape shows the database even when nothing probes
    await rt.get(Figures).refresh()


async def beat(rt: Runtime) -> None:
    await rt.get(Heartbeat).beat()


JOBS = (Job("ops.figures", EVERY_SECS, refresh), Job("ops.heartbeat", store.BEAT_SECS, beat))
