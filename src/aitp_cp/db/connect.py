"""The one way to connect: the pool, the listener, the migration and `check` use it.

Session settings are sent after the connection is made. As startup parameters a pooler would refuse or drop them.
"""

import asyncio
import getpass
import os
from collections.abc import Mapping
from typing import Any

import asyncpg

from aitp_cp.database_url import DatabaseUrlError, read

CONNECT_TIMEOUT_SECS = 5.0  # the longest that a host which does not answer may hold up a request
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


async def connect(
    dsn: str,
    *,
    application_name: str = APPLICATION_NAME,
    command_timeout: float | None = None,
    session: Mapping[str, str] | None = None,
    **driver: Any,
) -> asyncpg.Connection:
    """Connect and pin the session; `session` overrides the pinned settings. Raises the driver's errors as they are,
    `DatabaseUrlError` for a URL that cannot be used, and `TimeoutError`."""
    url = read(dsn)
    if not url.names_user:
        _require_account()
    if url.verify_by_system:
        driver["ssl"] = True
    settings = {**PINNED, **url.settings, **(session or {})}
    async with asyncio.timeout(CONNECT_TIMEOUT_SECS):
        conn: asyncpg.Connection = await asyncpg.connect(
            url.dsn,
            timeout=CONNECT_TIMEOUT_SECS,
            command_timeout=command_timeout,
            server_settings={"application_name": url.application_name or application_name},
            **driver,
        )
        try:
            await conn.execute(_pinning(settings))
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
