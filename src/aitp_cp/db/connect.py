"""The one way to connect: the pool, the listener, the migration and `check` use it.

Session settings are sent after the connection is made. As startup parameters a pooler would refuse or drop them.
"""

import asyncio
import getpass
import os
from asyncio.staggered import staggered_race
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

import asyncpg

from aitp_cp.database_url import DatabaseUrl, DatabaseUrlError, Host, read

Conn: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Attempt = Awaitable[Conn]

CONNECT_TIMEOUT_SECS = 5.0  # the longest that a host which does not answer may hold up a request
# With several hosts: a machine that has vanished must not hold up the others, nor the next attempt.
NEXT_HOST_SECS = 0.25
HOST_TIMEOUT_SECS = 2.0
APPLICATION_NAME = "aitp-cp"

# The guarantees rest on these, whatever ALTER DATABASE and ALTER ROLE set. docs/operations.md has a reason for each.
PINNED: Mapping[str, str] = {
    "statement_timeout": "15000",
    "lock_timeout": "5000",
    "idle_in_transaction_session_timeout": "15000",
    "transaction_timeout": "0",  # PostgreSQL 17; the two above bound a transaction already
    "idle_session_timeout": "0",  # would end idle connections of the pool and the listener
    "default_transaction_isolation": "read committed",  # upserts and locks retry nothing: nothing may fail to serialize
    "default_transaction_deferrable": "off",
    "row_security": "off",  # a policy that hides rows becomes an error: a deny list must not be silently incomplete
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "standard_conforming_strings": "on",
    "jit": "off",  # compiling a short statement takes a hundred times as long as running it
}
# With `off` a crash could lose what was answered 200; stronger values of the operator stay.
_DURABLE = """
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""


class NoServer(OSError):
    """None of several hosts can be used; `failures` has the reason of each."""

    def __init__(self, failures: Sequence[tuple[Host, BaseException]]) -> None:
        super().__init__("none of the hosts can be used")
        self.failures = failures


async def connect(
    dsn: str,
    *,
    application_name: str = APPLICATION_NAME,
    command_timeout: float | None = None,
    session: Mapping[str, str] | None = None,
    standby: bool = False,
    timeout: float = CONNECT_TIMEOUT_SECS,
    **driver: Any,
) -> Conn:
    """Connect and pin the session; `session` overrides the pinned settings.

    Of several hosts the first that takes writes is used, with `standby` rather one that does not, unless the URL has
    `target_session_attrs`. Raises the driver's errors as they are, `NoServer` for several hosts, `DatabaseUrlError` for
    a URL that cannot be used, and `TimeoutError`.
    """
    url = read(dsn)
    if not url.names_user:
        _require_account()
    if url.verify_by_system:
        driver["ssl"] = True
    driver["command_timeout"] = command_timeout
    driver["server_settings"] = {"application_name": url.application_name or application_name}
    to_host = partial(_connect, pinning=_pinning({**PINNED, **url.settings, **(session or {})}), driver=driver)
    if len(url.hosts) < 2:
        return await to_host(url.dsn, timeout=timeout)
    async with asyncio.timeout(timeout):
        attributes = url.attributes or ("prefer-standby" if standby else "read-write")
        if attributes != "prefer-standby":
            return await _first(url, attributes, to_host)
        try:
            return await _first(url, "standby", to_host)
        except NoServer:
            return await _first(url, "any", to_host)


@contextmanager
def ending(conn: Conn) -> Iterator[Conn]:
    """End a connection with the block: `close` would wait for a response that may never come."""
    try:
        yield conn
    finally:
        conn.terminate()


async def _first(url: DatabaseUrl, attributes: str, to_host: Callable[..., Attempt]) -> Conn:
    """Return a connection to the first host with these attributes; each gets a head start before the next."""
    attempts = [partial(to_host, url.alone(host, attributes), timeout=HOST_TIMEOUT_SECS) for host in url.hosts]
    conn: Conn | None
    conn, _, failures = await staggered_race(attempts, NEXT_HOST_SECS)
    if conn is None:
        raise NoServer([(host, failure) for host, failure in zip(url.hosts, failures, strict=True) if failure])
    return conn


async def _connect(dsn: str, *, timeout: float, pinning: str, driver: Mapping[str, Any]) -> Conn:
    async with asyncio.timeout(timeout):
        conn: Conn = await asyncpg.connect(dsn, **driver)
        try:
            await conn.execute(pinning)
        except BaseException:
            conn.terminate()
            raise
    return conn


def _pinning(settings: Mapping[str, str]) -> str:
    """Return one statement, not prepared, for poolers lose those; it skips settings that an older server lacks."""
    rows = ", ".join(f"({_literal(name)}, {_literal(value)})" for name, value in settings.items())
    pins = "SELECT set_config(name, value, false) FROM (VALUES {}) AS pinned (name, value) WHERE {}"
    return pins.format(rows, "current_setting(name, true) IS NOT NULL") + ";" + _DURABLE


def _literal(text: str) -> str:
    """Return an escaped string literal that does not depend on standard_conforming_strings."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _require_account() -> None:
    """Check that the account has a name: the driver uses it without a user in the URL."""
    try:
        if not os.environ.get("PGUSER"):
            getpass.getuser()
    except (KeyError, OSError):
        raise DatabaseUrlError("must be a URL that names a user, for this account has no name") from None
