"""A background task that takes turns."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from aitp_cp.errors import DatabaseUnavailable
from aitp_cp.jobs import Loop
from aitp_cp.runtime import Runtime
from tests.support.app import App, running_app

pytestmark = pytest.mark.anyio


class Turns(Loop):
    """Notes when it took a turn, and fails the first ones."""

    def __init__(self, rt: Runtime, failing: int = 0) -> None:
        super().__init__(rt, "turns")
        self.times: list[float] = []
        self._failing = failing

    async def turn(self) -> float:
        self.times.append(asyncio.get_running_loop().time())
        if len(self.times) <= self._failing:
            raise DatabaseUnavailable
        return 3600.0

    async def reached(self, turns: int) -> None:
        async with asyncio.timeout(15):
            while len(self.times) < turns:
                await asyncio.sleep(0.002)


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[App]:
    async with running_app(database_url) as running:
        yield running


async def test_a_wake_starts_the_next_turn_at_once(app: App) -> None:
    loop = Turns(app.rt)
    loop.start()
    for count in (1, 2, 3):
        await loop.reached(count)
        loop.wake()
    await loop.reached(4)
    await loop.stop()
    taken = len(loop.times)
    loop.wake()
    await asyncio.sleep(0.05)
    assert len(loop.times) == taken


async def test_a_loop_backs_off_while_the_database_is_away(
    app: App, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pauses double, and the log says once that it waits and once that it continues."""
    monkeypatch.setattr("aitp_cp.jobs.loop.FIRST_BACKOFF_SECS", 0.05)
    loop = Turns(app.rt, failing=4)
    loop.start()
    await loop.reached(5)
    await loop.stop()
    pauses = [after - before for before, after in zip(loop.times, loop.times[1:], strict=False)]
    assert all(pause > 0.04 * 2**number for number, pause in enumerate(pauses))
    assert pauses[3] < 5
    out = capsys.readouterr().out
    assert (out.count("job_waits_for_database"), out.count("job_continues")) == (1, 1)
    assert "reason=DatabaseUnavailable" in out
