import os
import pwd
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from aitp_cp.db import embedded
from tests.support.embedded import ask, copy_wheel, ends, folder_for_everyone, start_owner, temp_directory

NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that everyone can reach, which is the temp directory too."""
    with folder_for_everyone() as folder, temp_directory(folder):
        yield folder


@pytest.fixture
def private(shared: Path) -> Path:
    """A folder of root's that no other account can enter."""
    folder = shared / "private"
    folder.mkdir(mode=0o700)
    return folder


def test_an_ordinary_account_runs_it(shared: Path) -> None:
    with embedded.start(shared / "home", durable=False) as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid == NOBODY.pw_uid
        assert server.data.stat().st_uid == NOBODY.pw_uid
        assert server.data == shared / "home" / "postgres"


def test_it_does_not_get_the_environment_of_its_owner(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CP_AID_SEED_HEX", "5ec2e7" * 8)
    with embedded.start(shared / "home", durable=False) as server:
        assert b"5ec2e7" not in Path(f"/proc/{server.pid}/environ").read_bytes()


def test_a_home_out_of_reach_stays_as_it_is(shared: Path, private: Path) -> None:
    for expected in ("CREATE TABLE kept AS SELECT 7 AS n", "DROP TABLE kept"):
        with embedded.start(private / "home", durable=True) as server:
            ask(server.dsn(), expected)
            assert server.data.parent.parent == shared
            assert stat.S_IMODE(private.stat().st_mode) == 0o700
            assert private.stat().st_uid == 0


def test_two_homes_out_of_reach_do_not_meet(private: Path) -> None:
    one = embedded.start(private / "one", durable=False)
    with one, embedded.start(private / "two", durable=False) as two:
        assert one.data != two.data
        assert one.dsn() != two.dsn()


def test_binaries_out_of_reach_are_copied_once(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(copy_wheel(private / "site")))
    made = set()
    for _ in range(2):
        with embedded.start(private / "home", durable=False) as server:
            assert ask(server.dsn(), "SELECT 1") == "1"
            assert private not in server.bin("postgres").parents
            made.add(server.bin("postgres").stat().st_ino)
    assert len(made) == 1
    assert not list(server.data.parent.glob("*.part"))


def test_a_stand_in_planted_by_another_account_is_refused(shared: Path, private: Path) -> None:
    with embedded.start(private / "home", durable=False) as server:
        stand_in = server.data.parent
    shutil.rmtree(stand_in)
    stand_in.mkdir()
    os.chown(stand_in, NOBODY.pw_uid, NOBODY.pw_gid)
    with pytest.raises(embedded.EmbeddedError, match=f"belongs to uid {NOBODY.pw_uid}"):
        embedded.start(private / "home")
    stand_in.rmdir()
    stand_in.symlink_to(shared)
    with pytest.raises(embedded.EmbeddedError, match="not a folder of ours"):
        embedded.start(private / "home")


def test_a_temp_directory_out_of_reach_is_passed_over(private: Path) -> None:
    with temp_directory(private), embedded.start(private / "home", durable=False) as server:
        assert ask(server.dsn(), "SELECT 1") == "1"
        assert private not in server.data.parents
    shutil.rmtree(server.data.parent)


def test_an_ordinary_user_runs_its_own(shared: Path) -> None:
    home = shared / "home"
    home.mkdir()
    os.chown(home, NOBODY.pw_uid, NOBODY.pw_gid)
    owner, pid = start_owner(home, str(NOBODY.pw_uid), path=copy_wheel(shared / "site"))
    assert Path(f"/proc/{pid}").stat().st_uid == NOBODY.pw_uid
    owner.communicate()
    assert owner.returncode == 0
    assert ends(pid)
    assert {entry.owner() for entry in home.rglob("*")} == {"nobody"}
