"""Runs every periodic job of the process from boot to drain."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from aitp_cp.jobs.loop import STOP_SECS, Loop
from aitp_cp.runtime import Runtime

JITTER = 0.1  # of the period; replicas started together would otherwise wake together every time


@dataclass(frozen=True, slots=True)
class Job:
    """A named function run at boot and then every `every_secs`; it is cheap to call when there is nothing to do."""

    name: str
    every_secs: float
    run: Callable[[Runtime], Awaitable[None]]


class Periodic(Loop):
    """One job; after a bug it runs again at its next turn."""

    def __init__(self, rt: Runtime, job: Job) -> None:
        super().__init__(rt, job.name)
        self.retry_secs = job.every_secs
        self._job = job

    async def turn(self) -> float:
        with self.rt.tracer.span(f"job {self.name}"):
            await self._job.run(self.rt)
        return self._job.every_secs * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, guards nothing


class Runner:
    """All jobs of a process, each a task of its own."""

    def __init__(self, rt: Runtime, jobs: Iterable[Job]) -> None:
        self._loops = [Periodic(rt, job) for job in jobs]

    def start(self) -> None:
        for loop in self._loops:
            loop.start()

    async def stop(self, grace_secs: float = STOP_SECS) -> None:
        """Let each job finish its turn, for at most `grace_secs`."""
        await asyncio.gather(*(loop.stop(grace_secs) for loop in self._loops))
