"""Runs every job of the process from boot to drain."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import structlog

from aitp_cp.errors import RETRIABLE
from aitp_cp.runtime import Runtime

log = structlog.get_logger("aitp_cp.jobs")

# Replicas started together would otherwise wake together for ever.
JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Job:
    """A named function run at boot and then every `every_secs`; it is cheap to call when there is nothing to do."""

    name: str
    every_secs: float
    run: Callable[[Runtime], Awaitable[None]]


class Runner:
    """One task per job; a failure is logged and the job runs again at its next turn."""

    def __init__(self, rt: Runtime, jobs: Iterable[Job]) -> None:
        self._rt = rt
        self._jobs = list(jobs)
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._loop(job), name=f"job:{job.name}") for job in self._jobs]

    async def stop(self, grace_secs: float = 10.0) -> None:
        """Let each job finish the item it is at, for at most `grace_secs`."""
        self._stopping.set()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=grace_secs)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _loop(self, job: Job) -> None:
        structlog.contextvars.clear_contextvars()
        while not self._stopping.is_set():
            await self._once(job)
            pause = job.every_secs * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, guards nothing
            try:
                await asyncio.wait_for(self._stopping.wait(), timeout=pause)
            except TimeoutError:
                continue

    async def _once(self, job: Job) -> None:
        try:
            with self._rt.tracer.span(f"job {job.name}"):
                await job.run(self._rt)
        except RETRIABLE:
            log.warning("job waits for the database", job=job.name)
        except Exception:
            log.exception("job failed", job=job.name)
        else:
            self._rt.metrics.job_last_success.labels(job=job.name).set(self._rt.clock().timestamp())
