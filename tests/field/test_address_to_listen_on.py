"""One way to open sockets: HOST means the same with one process and with several, and the health check follows it."""

import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from aitp_cp.cli.listening import open_sockets
from tests.support.app import AUTH
from tests.support.process import Process
from tests.support.waiting import eventually


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="LEFT OUT: this machine has no IPv6, dual stack was not tested")


def health(server: Process, **other: str) -> tuple[int, str]:
    """Return the exit code of the health check, and what the container's engine shows of it."""
    command = [sys.executable, "-m", "aitp_cp.cli.alive"]
    done = subprocess.run(command, env={**server.environment, **other}, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def healthy(server: Process, **other: str) -> int:
    return health(server, **other)[0]


@needs_ipv6
@pytest.mark.parametrize("workers", ["1", "2"])
def test_any_address_means_both_families(database_url: str, tmp_path: Path, workers: str) -> None:
    """Row 17: `HOST=::` takes IPv4 too, and an IPv4 caller appears as one."""
    with Process(database_url, tmp_path / "log", "--workers", workers, HOST="::") as server:
        for url in (server.url, f"http://[::1]:{server.port}"):
            for _ in range(8):
                assert httpx.get(f"{url}/api/audit", headers=AUTH).status_code == 200
        assert healthy(server) == 0
        eventually(lambda: server.log().count("client_ip=::1") >= 8)
        assert "client_ip=127.0.0.1" in server.log()
        assert "::ffff:" not in server.log().replace("http://[::ffff:", "")


@needs_ipv6
@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_address_in_brackets(database_url: str, tmp_path: Path, workers: str) -> None:
    """Row 17: `HOST=[::1]` is `::1`."""
    url = "http://[::1]"
    server = Process(database_url, tmp_path / "log", "--workers", workers, HOST="[::1]")
    server.url = f"{url}:{server.port}"
    with server:
        assert healthy(server) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{server.port}/api/livez")


def test_the_health_check_follows_host_and_port(database_url: str, tmp_path: Path) -> None:
    """Row 17: also where a file holds them, or a name is given; it fails where nobody listens."""
    port = tmp_path / "port"
    with Process(database_url, tmp_path / "log", ALLOWED_HOSTS="cp.example") as server:
        port.write_text(f"{server.port}\n")
        assert healthy(server) == 0
        assert healthy(server, HOST="localhost") == 0
        assert healthy(server, HOST="0.0.0.0") == 0
        assert healthy(server, PORT="", PORT_FILE=str(port)) == 0
        code, reason = health(server, PORT="1")
        assert (code, "127.0.0.1 port 1, as HOST and PORT say: " in reason) == (1, True)
    assert healthy(server) == 1


def test_a_name_of_several_addresses_is_bound_to_all_with_one_port() -> None:
    """Row 17: each process has sockets of its own, all on one port."""
    sets = open_sockets("localhost", 0, 3)
    try:
        ports = {sock.getsockname()[1] for sockets in sets for sock in sockets}
        assert len(ports) == 1
        assert len({len(sockets) for sockets in sets}) == 1
    finally:
        for sockets in sets:
            for sock in sockets:
                sock.close()
