"""What `check` asks the database: each question by itself, so that one that fails hides no other."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import asyncpg

from aitp_cp.settings import Settings

Level = Literal["ok", "info", "warn", "fail"]
Row = tuple[Level, str, str]
Conn: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

TIMEOUT_SECS = 5
NOTIFICATION_SECS = 2.0
CLOCK_WARN_SECS = 2.0
CLOCK_FAIL_SECS = 60.0
OLDEST_SERVER = 14
CHANNEL = "aitp_cp_check"
# Besides the pool: the one that listens.
EXTRA_CONNECTIONS = 1

FAILURES = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)

# The first that fits; the driver's own texts may repeat the address with its password.
REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, f"no answer within {TIMEOUT_SECS} s"),
    (socket.gaierror, "its host name does not resolve"),
    (ConnectionRefusedError, "nothing listens at its address"),
    (ssl.SSLError, "the TLS handshake failed"),
    (asyncpg.InvalidAuthorizationSpecificationError, "it refuses the role or the password"),
    (asyncpg.InvalidCatalogNameError, "the server has no database of that name"),
    (asyncpg.TooManyConnectionsError, "it has no connection left"),
    (asyncpg.CannotConnectNowError, "it is starting or stopping"),
)

ENCODING = "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"

READ_ONLY = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'"

# NULL for what does not exist yet.
NOT_ALLOWED = """
SELECT name FROM unnest($1::text[]) AS name WHERE NOT (
    has_table_privilege(to_regclass(name)::oid, 'SELECT') AND has_table_privilege(to_regclass(name)::oid, 'INSERT')
    AND has_table_privilege(to_regclass(name)::oid, 'UPDATE') AND has_table_privilege(to_regclass(name)::oid, 'DELETE')
)
UNION ALL SELECT name FROM unnest($2::text[]) AS name
WHERE NOT has_sequence_privilege(to_regclass(name)::oid, 'USAGE')
ORDER BY 1
"""

MAY_MIGRATE = """
SELECT has_schema_privilege(current_schema(), 'CREATE') AND NOT EXISTS (
    SELECT 1 FROM pg_class WHERE oid = ANY(SELECT to_regclass(name)::oid FROM unnest($1::text[]) AS name)
    AND NOT pg_has_role(relowner, 'USAGE')
)
"""

CONNECTIONS = """
SELECT least(
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
    (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user),
    (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database())
), (SELECT count(*)::int - 1 FROM pg_stat_activity WHERE backend_type = 'client backend')
"""

ENCRYPTED = """
SELECT ssl, inet_server_addr() IS NULL OR inet_server_addr() <<= '127.0.0.0/8' OR inet_server_addr() = '::1'
FROM pg_stat_ssl WHERE pid = pg_backend_pid()
"""


async def examine(settings: Settings) -> list[Row]:
    """One row per question, or the one that says why none can be asked."""
    assert settings.database_url is not None
    try:
        conn = await asyncpg.connect(
            settings.database_url.get_secret_value(), timeout=TIMEOUT_SECS, command_timeout=TIMEOUT_SECS
        )
    except FAILURES as failure:
        return [("fail", "database", f"cannot be reached: {_reason(failure)}")]
    try:
        return [await _answered(conn, settings, subject, ask) for subject, ask in QUESTIONS]
    finally:
        with suppress(*FAILURES):
            await conn.close(timeout=TIMEOUT_SECS)


async def _answered(conn: Conn, settings: Settings, subject: str, ask: "Question") -> Row:
    try:
        level, sentence = await ask(conn, settings)
    except FAILURES as failure:
        return "fail", subject, f"cannot be examined: {_reason(failure)}"
    return level, subject, sentence


def _reason(failure: BaseException) -> str:
    said = next((sentence for kind, sentence in REASONS if isinstance(failure, kind)), "")
    return f"{said} ({type(failure).__name__})" if said else type(failure).__name__


async def _server(conn: Conn, settings: Settings) -> tuple[Level, str]:
    version, encoding = conn.get_server_version(), await conn.fetchval(ENCODING)
    shown = f"PostgreSQL {version.major}.{version.minor}"
    if version.major < OLDEST_SERVER:
        return "fail", f"{shown} is older than {OLDEST_SERVER}"
    if encoding != "UTF8":
        return "fail", f"{shown} stores {encoding}: create the database with encoding UTF8"
    if await conn.fetchval(READ_ONLY):
        return "fail", f"{shown} takes no writes: a standby, or default_transaction_read_only is on"
    return "ok", shown


async def _schema(conn: Conn, settings: Settings) -> tuple[Level, str]:
    from aitp_cp.db.migrations import HEAD, classify
    from aitp_cp.db.schema import current_revision

    current = await current_revision(conn)
    state = classify(current)
    if state == "head":
        return "ok", f"at head ({HEAD})"
    if state == "behind":
        return "fail", f"behind ({current or 'nothing yet'}, head is {HEAD}): run `aitp-cp migrate`"
    return "fail", f"ahead ({current}): deploy the version that migrated it"


async def _permissions(conn: Conn, settings: Settings) -> tuple[Level, str]:
    from aitp_cp.db.schema import SEQUENCES, TABLES

    lacking = [row[0] for row in await conn.fetch(NOT_ALLOWED, list(TABLES), list(SEQUENCES))]
    if lacking:
        return "fail", f"the role may not read and write {', '.join(lacking)}"
    if await conn.fetchval(MAY_MIGRATE, list(TABLES)):
        return "ok", "the role may read, write and migrate"
    return "info", "the role may read and write; migrations need the role that owns the tables"


async def _clock(conn: Conn, settings: Settings) -> tuple[Level, str]:
    theirs: datetime = await conn.fetchval("SELECT clock_timestamp()")
    apart = abs((datetime.now(UTC) - theirs).total_seconds())
    sentence = f"{apart:.1f} s apart from the database's"
    if apart > CLOCK_FAIL_SECS:
        return "fail", sentence
    return ("warn" if apart > CLOCK_WARN_SECS else "ok"), sentence


async def _connections(conn: Conn, settings: Settings) -> tuple[Level, str]:
    allowed, used = tuple(await conn.fetchrow(CONNECTIONS) or (0, 0))
    needed = settings.db_pool_max + EXTRA_CONNECTIONS
    sentence = f"{allowed} are allowed, {used} are taken; a process may need {needed}"
    if needed > allowed:
        return "fail", sentence
    return ("warn" if needed > allowed - used else "ok"), sentence


async def _notifications(conn: Conn, settings: Settings) -> tuple[Level, str]:
    """A pooler between that lends a connection per transaction swallows them."""
    heard = asyncio.Event()
    await conn.add_listener(CHANNEL, lambda *_: heard.set())
    await conn.execute(f"NOTIFY {CHANNEL}")
    try:
        await asyncio.wait_for(heard.wait(), NOTIFICATION_SECS)
    except TimeoutError:
        return "warn", "do not arrive: is a transaction pooler in between? Events are late by up to a second"
    return "ok", "arrive"


async def _encryption(conn: Conn, settings: Settings) -> tuple[Level, str]:
    encrypted, local = tuple(await conn.fetchrow(ENCRYPTED) or (False, False))
    if encrypted:
        return "ok", "the connection is encrypted"
    if local:
        return "ok", "the database is on this machine"
    return "info", "the connection is not encrypted: add ?sslmode=require unless the network is yours"


Question = Callable[[Conn, Settings], Awaitable[tuple[Level, str]]]
QUESTIONS: tuple[tuple[str, Question], ...] = (
    ("database", _server),
    ("schema", _schema),
    ("permissions", _permissions),
    ("clock", _clock),
    ("connections", _connections),
    ("notifications", _notifications),
    ("encryption", _encryption),
)
