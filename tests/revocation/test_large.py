"""A hundred thousand entries: the loop goes on turning, and the child that signs goes when its parent goes."""

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aitp
import anyio
import asyncpg
import httpx
import pytest

from aitp_cp.db import urgent
from aitp_cp.protocol.signer import Signer
from aitp_cp.revocation import signing
from aitp_cp.revocation.published import PublishedList
from aitp_cp.revocation.signing_process import SigningProcess
from tests.revocation.support import LIST, fill, listed
from tests.support.app import ENVIRONMENT, App
from tests.support.embedded import running
from tests.support.process import Process
from tests.support.processes import processes
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

ENTRIES = 100_000
MAX_LAG_SECS = 0.020
PATIENCE_SECS = 30.0

SEED = "11" * 32
CHUNKS = [b'[["00000000-0000-4000-8000-000000000001","00000000-0000-1000-8000-000000000002"],[1,2],["why",null]]'] * 2


class Lag:
    """The longest time that the loop's thread worked before it came back to this task.

    Its processor time is taken, for another program of the machine may hold a core up.
    """

    async def __aenter__(self) -> "Lag":
        self.worst = 0.0
        self._task = asyncio.create_task(self._measure())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._task.cancel()

    async def _measure(self) -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.001)
            self.worst = max(self.worst, time.thread_time() - before)


async def test_a_long_list_does_not_hold_the_loop_up(app: App) -> None:
    published = app.rt.get(PublishedList)
    async with app.rt.db.connection() as conn:
        await fill(conn, ENTRIES)
    published.changed()
    async with Lag() as lag:
        signed = await published.get()
    assert lag.worst <= MAX_LAG_SECS
    aitp.verify_revocation_list(signed.body.decode(), app.rt.signer.aid)
    assert signed.body.count(b'"jti":') == ENTRIES

    async with AsyncExitStack() as everything:
        for _ in range(app.rt.db.max_size):
            with urgent():
                await everything.enter_async_context(app.rt.db.connection())
        async with asyncio.timeout(4):
            assert (await app.http.get(LIST)).content == signed.body
            known = await app.http.get(LIST, headers={"If-None-Match": signed.etag})
    assert (known.status_code, known.content) == (304, b"")


async def test_the_child_signs_what_the_process_itself_would_sign() -> None:
    process = SigningProcess(SEED)
    try:
        for _ in range(3):
            here, there = signing.sign(Signer.from_seed(SEED), CHUNKS, 60), process.sign(CHUNKS, 60)
            if here.body == there.body:  # unless a second began between the two
                break
        assert here == there
        assert there.unsigned == 2
    finally:
        process.close()


async def test_a_child_that_dies_is_replaced() -> None:
    process = SigningProcess(SEED)
    try:
        process.sign(CHUNKS, 60)
        process.kill()
        with pytest.raises((OSError, EOFError)):
            process.sign(CHUNKS, 60)
        assert process.sign(CHUNKS, 60).unsigned == 2
    finally:
        process.close()


async def renewed(app: App, count: int) -> bool:
    """Whether the list has so many entries after a change; a slow moment has the last good one served, or none."""
    app.rt.get(PublishedList).changed()
    response = await app.http.get(LIST)
    return response.status_code == 200 and len(listed(response)) == count


async def test_a_long_list_survives_the_child(app: App) -> None:
    async with app.rt.db.connection() as conn:
        await fill(conn, 1500)
    published = app.rt.get(PublishedList)
    await until(lambda: renewed(app, 1500), PATIENCE_SECS)
    ((child, _),) = signing_children(os.getpid())
    os.kill(child, signal.SIGKILL)

    async def another_child_signs() -> bool:
        published.changed()
        assert len(listed(await app.http.get(LIST))) == 1500
        return [pid for pid, _ in signing_children(os.getpid()) if pid != child] != []

    await until(another_child_signs, PATIENCE_SECS)


async def test_no_child_outlives_a_killed_process(database_url: str, tmp_path: Path) -> None:
    conn = await asyncpg.connect(database_url)
    await fill(conn, 1500)
    await conn.close()
    with Process(database_url, tmp_path / "log") as server:

        async def is_long() -> bool:
            response = httpx.get(server.url + LIST, timeout=PATIENCE_SECS)
            return response.status_code == 200 and len(listed(response)) == 1500

        await until(is_long, PATIENCE_SECS)
        ((child, command),) = signing_children(server.running.pid)
        assert ENVIRONMENT["CP_AID_SEED_HEX"] not in command
        server.kill()
        with anyio.fail_after(PATIENCE_SECS):
            while running(child):
                await anyio.sleep(0.05)


def signing_children(parent: int) -> list[tuple[int, str]]:
    """The ids and command lines of a process's children that sign."""
    return [(seen.pid, seen.command) for seen in processes() if seen.parent == parent and "spawn_main" in seen.command]
