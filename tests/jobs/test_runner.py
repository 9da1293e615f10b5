"""Background work from boot to drain."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from aitp_cp.errors import DatabaseUnavailable
from aitp_cp.jobs import Job, Runner
from aitp_cp.runtime import Runtime
from tests.support.app import App, running_app

pytestmark = pytest.mark.anyio

SOON = 0.02


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[App]:
    async with running_app(database_url) as running:
        yield running


class Counted:
    """A job's body that counts its runs and then does as it is told."""

    def __init__(self, then: Callable[[int], Awaitable[None]] | None = None) -> None:
        self.runs = 0
        self._then = then

    async def __call__(self, rt: Runtime) -> None:
        self.runs += 1
        if self._then:
            await self._then(self.runs)

    async def reached(self, runs: int) -> None:
        async with asyncio.timeout(15):
            while self.runs < runs:
                await asyncio.sleep(0.005)


async def test_a_job_runs_at_boot_and_again_and_again(app: App) -> None:
    at_boot, often = Counted(), Counted()
    runner = Runner(app.rt, [Job("rare", 3600, at_boot), Job("often", SOON, often)])
    runner.start()
    await often.reached(4)
    await runner.stop()
    assert at_boot.runs == 1
    ended = often.runs
    await asyncio.sleep(SOON * 3)
    assert often.runs == ended


@pytest.mark.parametrize("failure", [RuntimeError("no"), DatabaseUnavailable()])
async def test_a_failure_ends_neither_the_job_nor_the_others(app: App, failure: Exception) -> None:
    async def fail(run: int) -> None:
        if run < 3:
            raise failure

    failing, healthy = Counted(fail), Counted()
    runner = Runner(app.rt, [Job("failing", SOON, failing), Job("healthy", SOON, healthy)])
    runner.start()
    await failing.reached(4)
    await healthy.reached(4)
    await runner.stop()


async def test_only_success_is_shown_as_success(app: App) -> None:
    async def fail(run: int) -> None:
        raise RuntimeError

    good, bad = Counted(), Counted(fail)
    runner = Runner(app.rt, [Job("good", 3600, good), Job("bad", 3600, bad)])
    runner.start()
    await good.reached(1)
    await bad.reached(1)
    await runner.stop()
    lines = (await app.http.get("/api/metrics")).text.splitlines()
    shown = [line for line in lines if line.startswith("aitp_control_plane_job_last_success_timestamp_seconds{")]
    (line,) = [line for line in shown if '"good"' in line]
    assert float(line.rpartition(" ")[2]) == pytest.approx(time.time(), abs=60)
    assert not [line for line in shown if '"bad"' in line]


async def test_a_job_finishes_what_it_is_at(app: App) -> None:
    finished = []

    async def take_a_while(run: int) -> None:
        await asyncio.sleep(0.2)
        finished.append(run)

    job = Counted(take_a_while)
    runner = Runner(app.rt, [Job("slow", SOON, job)])
    runner.start()
    await job.reached(1)
    await runner.stop()
    assert finished == [1]


async def test_a_job_that_does_not_end_is_given_up(app: App) -> None:
    async def hang(run: int) -> None:
        await asyncio.Event().wait()

    job = Counted(hang)
    runner = Runner(app.rt, [Job("hung", SOON, job)])
    runner.start()
    await job.reached(1)
    began = time.monotonic()
    await runner.stop(grace_secs=0.1)
    assert time.monotonic() - began < 10  # what it is given when nothing is said


async def test_stopping_before_starting_is_nothing(app: App) -> None:
    job = Counted()
    await Runner(app.rt, [Job("never", SOON, job)]).stop()
    assert job.runs == 0
