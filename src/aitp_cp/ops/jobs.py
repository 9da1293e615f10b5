"""Keeps the figures on /api/metrics fresh, so that a scrape asks the database nothing."""

from aitp_cp.jobs import Job
from aitp_cp.ops.figures import Figures
from aitp_cp.ops.health import DatabaseProbe
from aitp_cp.runtime import Runtime

EVERY_SECS = 10


async def refresh(rt: Runtime) -> None:
    rt.get(Figures).show_pool()
    await rt.get(DatabaseProbe).up()  # also where nobody probes, a scrape says whether the database is there
    await rt.get(Figures).refresh()


JOBS = (Job("ops.figures", EVERY_SECS, refresh),)
