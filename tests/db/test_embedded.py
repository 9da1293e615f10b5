import os
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aitp_cp.db import embedded
from aitp_cp.db.embedded_place import Account, own_directory, reachable, server_account
from tests.support.embedded import ask, ends, folder_for_everyone, running, start_owner, temp_directory


@pytest.fixture
def home() -> Iterator[Path]:
    with folder_for_everyone() as folder, temp_directory(folder):
        yield folder / "home"


@pytest.fixture(scope="module")
def made_home() -> Iterator[Path]:
    """A home that already has its data, for tests that leave it as they found it."""
    with folder_for_everyone() as folder:
        embedded.start(folder / "home", durable=False).stop()
        yield folder / "home"


def test_keeps_data_and_stops(home: Path) -> None:
    with embedded.start(home) as server:
        ask(server.dsn(), "CREATE DATABASE mine")
        ask(server.dsn("mine"), "CREATE TABLE kept AS SELECT 7 AS n")
        assert ask(server.dsn(), "SHOW fsync") == "on"
        assert ask(server.dsn(), "SHOW listen_addresses") == ""
        assert ask(server.dsn(), "SHOW server_encoding") == "UTF8"
        assert ask(server.dsn(), "SHOW max_connections") == "200"
        assert server.data == home / "postgres"
        assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
        pid = server.pid
    assert ends(pid)
    server.stop()
    with embedded.start(home, durable=False) as server:
        assert ask(server.dsn("mine"), "SELECT n FROM kept") == "7"
        assert ask(server.dsn(), "SHOW fsync") == "off"


def test_its_programs_work_with_its_address(made_home: Path) -> None:
    with embedded.start(made_home, durable=False) as server:
        command = [str(server.bin("psql")), server.dsn(), "-Atc", "SELECT 6 * 7"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "42\n"


def test_listens_on_the_port_it_is_given(made_home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with embedded.start(made_home, durable=False, port=port) as server:
        assert server.port == port
        assert ask(f"postgresql://postgres@127.0.0.1:{port}/postgres", "SELECT 'tcp'") == "tcp"
        assert ask(server.dsn(), "SELECT 'socket'") == "socket"


def test_a_second_owner_is_told_who_the_first_is(made_home: Path) -> None:
    with embedded.start(made_home, durable=False) as server:
        with pytest.raises(embedded.AlreadyRunning) as caught:
            embedded.start(made_home)
        assert caught.value.pid == os.getpid()
        assert str(os.getpid()) in str(caught.value)
        assert ask(server.dsn(), "SELECT 1") == "1"


def test_the_server_of_a_killed_owner_is_taken_over(made_home: Path) -> None:
    owner, pid = start_owner(made_home)
    owner.kill()
    owner.communicate()
    assert running(pid)
    with embedded.start(made_home, durable=False) as server:
        assert server.pid == pid
        assert ask(server.dsn(), "SELECT 1") == "1"
    assert ends(pid)


def test_a_left_over_server_with_other_settings_is_replaced(made_home: Path) -> None:
    owner, pid = start_owner(made_home)
    owner.kill()
    owner.communicate()
    with embedded.start(made_home, durable=True) as server:
        assert server.pid != pid
        assert ends(pid)
        assert ask(server.dsn(), "SHOW fsync") == "on"


def test_ctrl_c_of_the_owner_does_not_reach_the_server(made_home: Path) -> None:
    with embedded.start(made_home, durable=False) as server:
        assert os.getpgid(server.pid) != os.getpgid(0)


@pytest.mark.parametrize("content", ["999999999\n", "{own}\n", "1\n/somewhere/else\n", ""])
def test_a_stale_pid_file_does_not_block(made_home: Path, content: str) -> None:
    (made_home / "postgres" / "postmaster.pid").write_text(content.format(own=os.getpid()))
    with embedded.start(made_home, durable=False) as server:
        assert ask(server.dsn(), "SELECT 1") == "1"


def test_a_killed_server_that_nobody_has_buried_yet_is_waited_for(made_home: Path) -> None:
    with subprocess.Popen(["true"], **server_account().process_options()) as dead:
        time.sleep(0.2)
        (made_home / "postgres" / "postmaster.pid").write_text(f"{dead.pid}\n")
        burial = threading.Timer(0.5, dead.wait)
        burial.start()
        with embedded.start(made_home, durable=False) as server:
            assert ask(server.dsn(), "SELECT 1") == "1"
        burial.join()


def test_what_was_committed_survives_a_crash_with_a_client_connected(made_home: Path) -> None:
    with embedded.start(made_home) as server:
        ask(server.dsn(), "CREATE TABLE survived AS SELECT 7 AS n")
        sleeper = [str(server.bin("psql")), server.dsn(), "-c", "SELECT pg_sleep(60)"]
        sleeping = subprocess.Popen(sleeper, stderr=subprocess.DEVNULL)
        asleep = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"
        while ask(server.dsn(), asleep) == "0":
            time.sleep(0.01)
        os.kill(server.pid, signal.SIGKILL)
    with embedded.start(made_home) as server:
        assert ask(server.dsn(), "SELECT n FROM survived") == "7"
    assert sleeping.wait() != 0


def test_an_initdb_that_was_killed_is_begun_anew(home: Path) -> None:
    (home / "postgres.part" / "base").mkdir(parents=True)
    with embedded.start(home, durable=False) as server:
        assert ask(server.dsn(), "SELECT 1") == "1"


def test_data_of_another_version_is_left_alone(made_home: Path) -> None:
    version = made_home / "postgres" / "PG_VERSION"
    version.write_text("17\n")
    with pytest.raises(embedded.EmbeddedError, match=r"made by Postgres 17, and this is 18"):
        embedded.start(made_home)
    assert version.read_text() == "17\n"
    version.write_text("18\n")


def test_a_server_that_does_not_start_shows_its_log_and_frees_the_home(made_home: Path) -> None:
    configuration = made_home / "postgres" / "postgresql.conf"
    good = configuration.read_text()
    configuration.write_text("no_such_setting = 1\n")
    with pytest.raises(embedded.EmbeddedError, match="no_such_setting"):
        embedded.start(made_home)
    configuration.write_text(good)
    with embedded.start(made_home, durable=False) as server:
        assert "no_such_setting" in server.log_file.read_text()


def test_a_folder_that_is_not_postgres_data_is_left_alone(home: Path) -> None:
    (home / "elsewhere").mkdir(parents=True)
    (home / "postgres").symlink_to(home / "elsewhere")
    with pytest.raises(embedded.EmbeddedError, match="not a folder of ours"):
        embedded.start(home)
    assert list((home / "elsewhere").iterdir()) == []


def test_a_path_that_cannot_be_a_home(home: Path) -> None:
    home.write_text("a file")
    with pytest.raises(embedded.EmbeddedError, match="cannot start"):
        embedded.start(home)


def test_a_path_too_long_for_a_socket(home: Path) -> None:
    deep = home / ("d" * 60) / ("e" * 60)
    with embedded.start(deep, durable=False) as server:
        assert server.data == deep / "postgres"
        assert ask(server.dsn(), "SHOW data_directory") == str(server.data)
        assert len(ask(server.dsn(), "SHOW unix_socket_directories")) < 100


def test_a_path_with_odd_characters(home: Path) -> None:
    with embedded.start(home / 'a b, "c" %41 ü', durable=False) as server:
        assert ask(server.dsn(), "SELECT 1") == "1"


def test_reach_is_judged_by_every_folder_on_the_way(home: Path) -> None:
    stranger = Account(os.geteuid() + 4242, os.getegid() + 4242)
    inner = home / "inner"
    inner.mkdir(parents=True)
    for folder in (home, inner):
        folder.chmod(0o755)
    assert reachable(inner, stranger)
    inner.chmod(0o750)
    assert not reachable(inner, stranger)
    assert reachable(inner, Account(stranger.uid, inner.stat().st_gid))
    inner.chmod(0o755)
    home.chmod(0o744)
    assert not reachable(inner, stranger)


def test_a_folder_others_may_write_to_is_refused(home: Path) -> None:
    me = Account(os.geteuid(), os.getegid())
    made = own_directory(home, me)
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert own_directory(made, me) == made
    made.chmod(0o777)
    with pytest.raises(embedded.EmbeddedError, match="can be written to by other accounts"):
        own_directory(made, me)
