"""A real PgBouncer on this machine, in front of the database of a test."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from aitp_cp.db.embedded_place import own_directory, server_account
from tests.support.process import free_port
from tests.support.waiting import eventually

_PATH = f"{os.environ['PATH']}:/usr/sbin"
_CONFIGURATION = """
[databases]
* = {server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = {mode}
default_pool_size = {size}
{more}
"""


def installed() -> str | None:
    return shutil.which("pgbouncer", path=_PATH)


@contextmanager
def bouncer(dsn: str, folder: Path, mode: str, *, size: int = 30, more: str = "") -> Iterator[str]:
    """The address of the database of `dsn` through a PgBouncer in this mode."""
    program, account, port = installed(), server_account(), free_port()
    assert program is not None
    parts = urlsplit(dsn)
    own_directory(folder, account, 0o755)
    (folder / "users").write_text('"postgres" ""\n')
    text = _CONFIGURATION.format(server=_server(dsn), port=port, folder=folder, mode=mode, size=size, more=more)
    (folder / "pgbouncer.ini").write_text(text)
    log = (folder / "log").open("wb")
    running = subprocess.Popen(
        [program, str(folder / "pgbouncer.ini")], stdout=log, stderr=log, cwd="/", **account.process_options()
    )
    try:
        eventually(lambda: b"process up" in (folder / "log").read_bytes() or running.poll() is not None)
        assert running.poll() is None, (folder / "log").read_text()
        yield f"postgresql://postgres@127.0.0.1:{port}{parts.path}?sslmode=disable"
    finally:
        running.kill()
        running.wait()
        log.close()


def _server(dsn: str) -> str:
    parts, options = urlsplit(dsn), parse_qs(urlsplit(dsn).query)
    host, port = options.get("host", [parts.hostname or ""])[0], options.get("port", [str(parts.port or 5432)])[0]
    return f"host={host} port={port}"
