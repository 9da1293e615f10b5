"""This process among the replicas: it says every few seconds that it lives, and how its jobs went."""

import asyncio
from contextlib import suppress

from aitp_cp import __version__
from aitp_cp.errors import RETRIABLE
from aitp_cp.events.tail import Tail
from aitp_cp.ops import store
from aitp_cp.ops.model import Beat
from aitp_cp.runtime import Runtime

LEAVE_SECS = 1.0  # a drain does not wait for a database that is away; the row is swept later


class Heartbeat:
    """One per process; its row is gone once the process has ended in order."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._started = rt.clock()
        self._written = False

    async def beat(self) -> None:
        """Write this process's row and the runs of its jobs; raises `DatabaseUnavailable`."""
        rt, runs = self._rt, self._rt.job_runs.unsaved()
        tail = rt.get(Tail)
        row = Beat(rt.id, __version__, self._started, tail.last, round(tail.behind() * 1000))
        async with rt.db.transaction() as conn:
            await store.beat(conn, row)
            if runs:
                await store.record(conn, runs.values(), rt.id)
            await store.sweep(conn)
        self._written = True
        rt.job_runs.saved(runs)

    async def stop(self) -> None:
        if self._written:
            with suppress(*RETRIABLE, TimeoutError):
                async with asyncio.timeout(LEAVE_SECS), self._rt.db.connection() as conn:
                    await store.leave(conn, self._rt.id)
