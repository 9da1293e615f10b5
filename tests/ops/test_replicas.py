"""GET /api/jobs and GET /api/replicas: what the processes on one database say of themselves."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from aitp_cp import __version__
from aitp_cp.errors import DatabaseUnavailable
from aitp_cp.jobs import Job, Runner
from aitp_cp.ops import store
from aitp_cp.ops.heartbeat import Heartbeat
from aitp_cp.telemetry.job_runs import JobRun
from tests.support.app import App, running_app
from tests.support.rows import execute, value

pytestmark = pytest.mark.anyio


async def test_each_process_shows_until_it_ends(database_url: str) -> None:
    async with running_app(database_url) as one:
        async with running_app(database_url) as two:
            for app in (one, two, two):
                await app.rt.get(Heartbeat).beat()
            shown = (await one.get("/api/replicas")).json()
            assert shown["answeredBy"] == str(one.rt.id)
            assert [row["id"] for row in shown["replicas"]] == [str(one.rt.id), str(two.rt.id)]
            assert {row["version"] for row in shown["replicas"]} == {__version__}
            assert [row["live"] for row in shown["replicas"]] == [True, True]
            assert set(shown["replicas"][0]) == {
                *("id", "version", "startedAt", "seenAt", "live", "position", "behind", "lagSecs")
            }
        await execute(one, "UPDATE replicas SET seen_at = now() - interval '1 minute', position = -3")
        [row] = (await one.get("/api/replicas")).json()["replicas"]
        assert (row["id"], row["live"]) == (str(one.rt.id), False)
        await execute(one, "UPDATE replicas SET seen_at = now() - interval '2 hours', id = gen_random_uuid()")
        await one.rt.get(Heartbeat).beat()
        assert [row["id"] for row in (await one.get("/api/replicas")).json()["replicas"]] == [str(one.rt.id)]


async def jobs(app: App) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in (await app.get("/api/jobs")).json()["jobs"]}


async def test_a_job_shows_its_last_run_and_its_last_failure_without_its_text(database_url: str) -> None:
    failures: list[Exception] = [ValueError("password=hunter2"), DatabaseUnavailable("dsn with a secret")]

    async def run(rt: object) -> None:
        if failures:
            raise failures.pop()

    async with running_app(database_url) as app:
        runner = Runner(app.rt, [Job("a.job", 0.01, run)])
        runner.start()
        async with asyncio.timeout(20):
            while _failing(app):
                await asyncio.sleep(0.01)
        await runner.stop()
        await app.rt.get(Heartbeat).beat()
        row = (await jobs(app))["a.job"]
        assert (row["failing"], row["error"], row["replica"]) == (False, "ValueError", str(app.rt.id))
        assert "hunter2" not in (await app.get("/api/jobs")).text


def _failing(app: App) -> bool:
    run = app.rt.job_runs.unsaved().get("a.job")
    return run is None or run.failed_at == run.ran_at


async def test_of_two_replicas_the_later_run_and_the_later_failure_stand(database_url: str) -> None:
    one, other = UUID(int=1), UUID(int=2)
    async with running_app(database_url) as app:
        now = app.rt.clock()
        late, early = now, now - timedelta(seconds=5)
        async with app.rt.db.connection() as conn:
            await store.record(conn, [JobRun("j", late, 7, None, None)], one)
            await store.record(conn, [JobRun("j", early, 9, early, "Early")], other)
            await store.record(conn, [JobRun("j", early, 9, early - timedelta(days=1), "Older")], other)
        row = (await jobs(app))["j"]
        assert (row["ms"], row["replica"], row["failing"], row["error"]) == (7, str(one), False, "Early")
        async with app.rt.db.connection() as conn:
            await store.record(conn, [JobRun("j", now + timedelta(seconds=1), 3, now + timedelta(seconds=1), "X")], one)
        assert (await jobs(app))["j"]["failing"] is True
        await execute(app, "UPDATE job_runs SET ran_at = now() - interval '31 days'")
        await app.rt.get(Heartbeat).beat()
        assert "j" not in await jobs(app)


async def test_what_could_not_be_written_is_written_later(database_url: str) -> None:
    async with running_app(database_url) as app:
        app.rt.job_runs.record("j", app.rt.clock(), 0.5, None)
        await execute(app, "ALTER TABLE job_runs RENAME TO elsewhere")
        with pytest.raises(Exception, match="job_runs"):
            await app.rt.get(Heartbeat).beat()
        await execute(app, "ALTER TABLE elsewhere RENAME TO job_runs")
        await app.rt.get(Heartbeat).beat()
        assert await value(app, "SELECT ms FROM job_runs WHERE name = 'j'") == 500
        assert app.rt.job_runs.unsaved() == {}
