"""Events in an SQLite file, so that they survive the process. Any number of processes may share one file.

Every process appends; the one that holds the lock on `<path>.lock` sends for all. The kernel frees that lock with the
process, however it ends.
"""

import os
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakSet

from aitp_cp_client.reporting.inbox import Batch, fit

if sys.platform != "win32":
    import fcntl

BUSY_SECS = 5  # another process appends or removes a batch: milliseconds, unless the disk is very slow
WAL_BYTES = 4 * 1024 * 1024  # what the journal is cut back to

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS totals (
  one INTEGER PRIMARY KEY CHECK (one = 1), events INTEGER, bytes INTEGER, owner TEXT
);
INSERT OR IGNORE INTO totals VALUES (1, 0, 0, NULL);
"""

# An open connection must not come through a fork: SQLite would believe in locks that only the parent holds.
_inside = threading.Lock()
_spools: WeakSet["Spool"] = WeakSet()


def _before_fork() -> None:
    """Close every connection between two transactions; each process opens its own again."""
    _inside.acquire()
    for spool in list(_spools):
        spool.disconnect()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_inside.release, after_in_child=_inside.release)


@dataclass(frozen=True, slots=True)
class Size:
    """How many events there are, and the position of the newest one."""

    events: int
    newest: int


class Spool:
    """For one thread. Its calls raise `sqlite3.Error` or `OSError` and have then changed nothing."""

    def __init__(self, path: Path, max_bytes: int, owner: str | None = None) -> None:
        """Create the file, readable by its user alone: reports may hold raw tokens. Raises `OSError`.

        `owner` is the AID of the agent that signs what is sent from it.
        """
        if sys.platform == "win32":
            raise OSError("a spool needs the file locks of a POSIX system")
        self._path = path
        self._max_bytes = max_bytes
        self._owner = owner
        self._connection: sqlite3.Connection | None = None
        self._lock: int | None = None
        self._sent = 0  # rows up to here were sent, whether or not they could be deleted yet
        self._sending = 0  # rows up to here are in the batch on its way: not dropped
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        _spools.add(self)

    def leads(self) -> bool:
        """Return whether this process is the one that sends."""
        if self._lock is None:
            lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                return False
            self._lock = lock
        return True

    def add(self, items: list[bytes]) -> int:
        """Append events; return how many of the oldest were dropped to make room. Committed when this returns."""
        with self._transaction() as db:
            db.executemany("INSERT INTO events (body) VALUES (?)", ((item,) for item in items))
            self._count(db, len(items), sum(map(len, items)))
            return self._make_room(db)

    def head(self, max_events: int, max_bytes: int) -> Batch:
        """Return the oldest events that were not sent; they stay until `remove`."""
        with _inside:
            rows = self._open().execute(
                "SELECT seq, body FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (self._sent, max_events)
            )
            stored: list[tuple[int, bytes]] = rows.fetchall()
        batch = fit([body for _, body in stored], max_events, max_bytes)
        if batch.items:
            self._sending = stored[len(batch.items) - 1][0]
        return Batch(batch.items, batch.full, self._sending)

    def remove(self, batch: Batch) -> None:
        """Delete a batch that `head` returned."""
        self._sent = batch.last
        with self._transaction() as db:
            self._delete(db, 0, batch.last)

    def size(self) -> Size:
        with _inside:
            db = self._open()
            [[events, newest]] = db.execute(
                "SELECT events, (SELECT coalesce(max(seq), 0) FROM events) FROM totals"
            ).fetchall()
        return Size(events, newest)

    def passed(self, position: int) -> bool:
        """Return whether every event up to this position has left."""
        with _inside:
            rows = self._open().execute("SELECT 1 FROM events WHERE seq > ? AND seq <= ?", (self._sent, position))
            return not rows.fetchall()

    def close(self) -> None:
        with _inside:
            self.disconnect()
        self.unlock()

    def disconnect(self) -> None:
        """Close the connection; the next call opens another one."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def unlock(self) -> None:
        """Close the lock's file. In a forked child that leaves the parent its lock, which unlocking would not."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
            self._sending = 0

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            db = sqlite3.connect(self._path, timeout=BUSY_SECS, isolation_level=None, check_same_thread=False)
            try:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = NORMAL")  # survives the process, not a power cut in the last moment
                db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
                db.executescript(SCHEMA)
                self._own(db)
            except BaseException:
                db.close()
                raise
            self._connection = db
        return self._connection

    def _own(self, db: sqlite3.Connection) -> None:
        """Raise `OSError` for another agent's file: its events would be refused as not ours to report."""
        [[owner]] = db.execute("SELECT owner FROM totals").fetchall()
        if self._owner and owner and owner != self._owner:
            raise OSError("the file belongs to another agent; use one for each")
        if self._owner and not owner:
            db.execute("UPDATE totals SET owner = ?", (self._owner,))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _inside:
            db = self._open()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def _make_room(self, db: sqlite3.Connection) -> int:
        [[size]] = db.execute("SELECT bytes FROM totals").fetchall()
        last, excess = 0, size - self._max_bytes
        if excess <= 0:
            return 0
        for seq, length in db.execute(
            "SELECT seq, length(body) FROM events WHERE seq > ? ORDER BY seq", (self._sending,)
        ):
            last, excess = seq, excess - length
            if excess <= 0:
                break
        return self._delete(db, self._sending, last)

    def _delete(self, db: sqlite3.Connection, after: int, last: int) -> int:
        """Delete the rows after one position up to another; return how many there were."""
        span = (after, last)
        chosen = "SELECT count(*), coalesce(sum(length(body)), 0) FROM events WHERE seq > ? AND seq <= ?"
        [[events, size]] = db.execute(chosen, span).fetchall()
        db.execute("DELETE FROM events WHERE seq > ? AND seq <= ?", span)
        self._count(db, -events, -size)
        return int(events)

    def _count(self, db: sqlite3.Connection, events: int, size: int) -> None:
        db.execute("UPDATE totals SET events = events + ?, bytes = bytes + ?", (events, size))
