"""A primary and a streaming hot standby, from the embedded server's programs; the standby can be promoted.

`Switch` stands for a DNS name: it leads new connections to one of them, and old ones stay where they are.
"""

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from aitp_cp.db.embedded_place import Place, own_directory, prepare
from aitp_cp.db.migrations.run import upgrade
from tests.support.postgres import servers_folder
from tests.support.proxy import Proxy

DATABASE = "cp"
START_SECS = 60.0
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}
SETTINGS = {
    "fsync": "off",
    "io_method": "sync",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "wal_level": "replica",
    "max_wal_senders": "4",
    "hot_standby": "on",
    "wal_keep_size": "128MB",
    "listen_addresses": "",
    "jit": "off",
}


class Node:
    """One server of the pair, reached over a unix socket in its own folder."""

    def __init__(self, folder: Path, place: Place) -> None:
        self._place = place
        self.data = own_directory(folder, place.account) / "data"
        self.sockets = own_directory(folder / "s", place.account)
        self._log = folder / "server.log"

    def dsn(self, database: str = DATABASE) -> str:
        return f"postgresql://postgres@/{database}?host={self.sockets}&port=5432"

    def run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._place.bin_dir / program, *arguments],
            capture_output=True,
            text=True,
            cwd="/",
            env=ENVIRONMENT,
            check=False,
            **self._place.account.process_options(),
        )
        assert done.returncode == 0, done.stdout + done.stderr + self.log()

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""

    def initialise(self) -> None:
        own_directory(self.data, self._place.account)
        options = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        self.run("initdb", "-D", str(self.data), *options)

    def copy(self, primary: "Node") -> None:
        """Become a streaming standby of a running primary."""
        own_directory(self.data, self._place.account)
        source = ["-h", str(primary.sockets), "-p", "5432", "-U", "postgres"]
        self.run("pg_basebackup", *source, "-D", str(self.data), "-R", "-X", "stream", "-c", "fast", "--no-sync")

    def start(self) -> None:
        options = " ".join(f"-c {name}={value or chr(39) * 2}" for name, value in SETTINGS.items())
        options += f" -c unix_socket_directories={self.sockets}"
        wait = ["-w", "-t", str(int(START_SECS))]
        self.run("pg_ctl", "start", *wait, "-D", str(self.data), "-l", str(self._log), "-o", options)

    def promote(self) -> None:
        """Make a standby the primary of its own timeline; returns when it takes writes."""
        self.run("pg_ctl", "promote", "-w", "-t", str(int(START_SECS)), "-D", str(self.data))

    def set(self, **settings: str) -> None:
        """Change settings of the running server, also of a standby."""
        for name, value in settings.items():
            asyncio.run(ask(self, f"ALTER SYSTEM SET {name} = '{value}'"))
        asyncio.run(ask(self, "SELECT pg_reload_conf()"))

    def stop(self, mode: str = "immediate") -> None:
        """Stop it, if it runs; `mode` is that of `pg_ctl`, by default a crash."""
        if (self.data / "postmaster.pid").exists():
            self.run("pg_ctl", "stop", "-m", mode, "-D", str(self.data))


class Pair:
    """A migrated primary and its standby."""

    def __init__(self, primary: Node, standby: Node) -> None:
        self.primary = primary
        self.standby = standby

    @property
    def dsn(self) -> str:
        """Both hosts, as a replica is told them."""
        hosts = sorted(str(node.sockets) for node in (self.primary, self.standby))
        return f"postgresql://postgres@/{DATABASE}?host={','.join(hosts)}&target_session_attrs=read-write"

    def synchronise(self) -> None:
        """Acknowledge nothing any more that the standby has not written."""
        self.primary.set(synchronous_standby_names="*")
        asyncio.run(self._until(self.primary, "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'"))

    def fail_over(self) -> float:
        """Stop the primary without a word and promote the standby; returns when that took writes (monotonic)."""
        self.primary.stop()
        return self.promote()

    def promote(self) -> float:
        """Promote the standby, whatever the primary does; returns when it took writes (monotonic)."""
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary
        return time.monotonic()

    def rejoin(self) -> None:
        """Make the other server a standby of the primary, asynchronous and with nothing missing."""
        self.primary.set(synchronous_standby_names="")
        self.standby.stop()
        shutil.rmtree(self.standby.data)
        self.standby.copy(self.primary)
        self.standby.start()
        self.catch_up()

    def catch_up(self) -> None:
        """Wait until the standby has replayed all that the primary has written."""
        asyncio.run(self.caught_up())

    async def caught_up(self) -> None:
        there = await ask(self.primary, "SELECT pg_current_wal_lsn()::text")
        await self._until(self.standby, f"SELECT pg_last_wal_replay_lsn() >= '{there}'")

    @staticmethod
    async def _until(node: Node, question: str) -> None:
        deadline = time.monotonic() + START_SECS
        while not await ask(node, question):
            assert time.monotonic() < deadline, f"the standby does not follow: {question}"
            await asyncio.sleep(0.02)


@contextmanager
def streaming_pair() -> Iterator[Pair]:
    """A primary with a migrated database `cp`, and a hot standby that follows it."""
    with tempfile.TemporaryDirectory(prefix="aitp-pair-") as name:
        Path(name).chmod(0o755)
        home = servers_folder() / "0"  # whose programs are where the server's account can run them
        home.mkdir(exist_ok=True)
        place = prepare(home.resolve())
        pair = Pair(*(Node(Path(name).resolve() / role, place) for role in ("primary", "standby")))
        try:
            pair.primary.initialise()
            pair.primary.start()
            asyncio.run(_migrate(pair.primary))
            pair.standby.copy(pair.primary)
            pair.standby.start()
            pair.catch_up()
            yield pair
        finally:
            pair.standby.stop()
            pair.primary.stop()


class Switch(Proxy):
    """A TCP forwarder whose target can be changed for new connections."""

    def lead_to(self, node: Node) -> None:
        self._target = urlsplit(node.dsn())


async def _migrate(node: Node) -> None:
    conn = await asyncpg.connect(node.dsn("postgres"))
    try:
        await conn.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await conn.close()
    await upgrade(node.dsn())


async def ask(node: Node, question: str) -> object:
    conn = await asyncpg.connect(node.dsn())
    try:
        return await conn.fetchval(question)
    finally:
        await conn.close()
