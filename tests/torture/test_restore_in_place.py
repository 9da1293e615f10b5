"""Two replicas under load while their database is restored in place: what is acknowledged afterwards is delivered."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from aitp_cp.db.embedded_place import prepare, server_account
from tests.support.app import AUTH
from tests.support.postgres import needs_own_programs, servers_folder
from tests.support.process import Process
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

PATIENCE_SECS = 30


def postgres_program(name: str, *arguments: str) -> None:
    """One of the server's own programs, as the account that may reach its socket."""
    needs_own_programs()
    account = server_account()
    program = prepare((servers_folder() / "0").resolve()).bin_dir / name
    environment = {"PATH": os.defpath, "LC_ALL": "C"}
    done = subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        cwd="/",
        env=environment,
        check=False,
        **account.process_options(),
    )
    assert done.returncode == 0, done.stderr


class Stream:
    """What one client of a stream has seen since the last reset."""

    def __init__(self) -> None:
        self.resets = 0
        self.seen: list[str] = []

    def take(self, line: str) -> None:
        if line.startswith("event: reset"):
            self.resets += 1
            self.seen = []
        elif line.startswith("data: ") and '"payload"' in line:
            event: dict[str, Any] = json.loads(line.removeprefix("data: "))
            self.seen.append(event["payload"]["name"])


@asynccontextmanager
async def following(url: str) -> AsyncIterator[Stream]:
    stream = Stream()

    async def follow() -> None:
        timeout = httpx.Timeout(PATIENCE_SECS)
        async with (
            httpx.AsyncClient(timeout=timeout) as http,
            http.stream("GET", f"{url}/api/events/stream", headers=AUTH) as response,
        ):
            async for line in response.aiter_lines():
                stream.take(line)

    task = asyncio.create_task(follow())
    try:
        yield stream
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def post(url: str, *names: str) -> None:
    async with httpx.AsyncClient(timeout=PATIENCE_SECS) as http, asyncio.timeout(PATIENCE_SECS):
        events = [{"type": "demo.event", "name": name} for name in names]
        while (await http.post(f"{url}/api/events", json=events, headers=AUTH)).status_code != 200:
            await asyncio.sleep(0.1)  # the tables are locked, or not there, while they are restored


async def test_streams_of_all_replicas_go_on_after_a_restore(database_url: str, tmp_path: Path) -> None:
    """Row 3: pg_dump at 10 events, 30 more, pg_restore into the same database; 8 new events reach every stream."""
    folder = tmp_path / "dump"
    dump = str(servers_folder() / f"{os.getpid()}.dump")
    folder.mkdir()
    with (
        Process(database_url, folder / "one", SSE_HEARTBEAT_MS="500") as one,
        Process(database_url, folder / "other", SSE_HEARTBEAT_MS="500") as other,
    ):
        old = [f"old-{number}" for number in range(10)]
        await post(one.url, *old)
        await asyncio.to_thread(dumped, database_url, dump)
        async with following(one.url) as first, following(other.url) as second:
            streams = (first, second)
            for number in range(6):
                await post(one.url, *(f"lost-{number}-{index}" for index in range(5)))
            await until(lambda: all(len(stream.seen) == 40 for stream in streams), PATIENCE_SECS)
            await asyncio.to_thread(restored, database_url, dump)
            new = [f"new-{number}" for number in range(8)]
            for number, name in enumerate(new):
                await post((one, other)[number % 2].url, name)
            await until(lambda: all(stream.seen[-8:] == new for stream in streams), PATIENCE_SECS)
            assert [stream.resets for stream in streams] == [1, 1]
            assert [stream.seen for stream in streams] == [old + new] * 2
        for process in (one, other):
            assert "log_replaced" in process.log()
            assert "Traceback" not in process.log()


def dumped(dsn: str, file: str) -> None:
    with open(file, "wb"):
        os.chown(file, server_account().uid, -1)
    postgres_program("pg_dump", "--format=custom", f"--file={file}", dsn)


def restored(dsn: str, file: str) -> None:
    arguments = ["--clean", "--if-exists", "--single-transaction", f"--dbname={dsn}"]
    postgres_program("pg_restore", *arguments, file)
    Path(file).unlink()
