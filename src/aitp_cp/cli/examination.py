"""What `check` examines in the database: each subject by itself, so that one failure hides no other."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeAlias

import asyncpg

from aitp_cp.cli import console_rows, key_rows
from aitp_cp.cli.database import DRIVER
from aitp_cp.cli.findings import Finding, Result
from aitp_cp.database_url import DatabaseUrlError
from aitp_cp.db import WRITABLE, fitness, numbering, standby
from aitp_cp.db.connect import connect
from aitp_cp.db.failures import reason, sentence
from aitp_cp.db.migrations import HEAD, classify
from aitp_cp.db.migrations.adoption import obstacle
from aitp_cp.db.schema import SEQUENCES, TABLES, current_revision
from aitp_cp.deliveries import outbox
from aitp_cp.settings import Settings

Conn: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

TIMEOUT_SECS = 5
NOTIFICATION_SECS = 2.0
CLOCK_WARN_SECS = 2.0
CLOCK_FAIL_SECS = 60.0
OUTBOX_WARN_EVENTS = 10_000  # as the alert AitpWebhookOutboxLag
CHANNEL = "aitp_cp_check"
EXTRA_CONNECTIONS = 1  # the listener's, beside the pool

FAILURES = (OSError, *DRIVER, DatabaseUrlError)

# Looks only in the schema that migrations use: a name further down the search path belongs to somebody else.
# A name that does not exist yet is NULL, and passes.
NOT_ALLOWED = """
WITH named AS (SELECT name, to_regclass(quote_ident(current_schema()) || '.' || name)::oid AS oid
                FROM unnest($1::text[]) AS name)
SELECT name FROM named WHERE NOT (
    has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
    AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')
)
UNION ALL SELECT name FROM unnest($2::text[]) AS name
WHERE NOT has_sequence_privilege(to_regclass(quote_ident(current_schema()) || '.' || name)::oid, 'USAGE')
ORDER BY 1
"""

HIDDEN = """
SELECT relname FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relname = ANY($1) AND row_security_active(oid)
ORDER BY 1
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


async def examine(settings: Settings) -> list[Finding]:
    """Return one finding per subject, or one that says why the database cannot be examined."""
    try:
        conn = await connect(settings.dsn, command_timeout=TIMEOUT_SECS, statement_cache_size=0)
    except FAILURES as failure:
        return [Finding("fail", "database", sentence(failure))]
    try:
        return [await _examined(conn, settings, subject, examiner) for subject, examiner in SUBJECTS]
    finally:
        with suppress(*FAILURES):
            await conn.close(timeout=TIMEOUT_SECS)


async def _examined(conn: Conn, settings: Settings, subject: str, examiner: "Examiner") -> Finding:
    try:
        level, sentence = await examiner(conn, settings)
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
        return Finding("info", subject, "comes with the migration")
    except FAILURES as failure:
        return Finding("fail", subject, f"cannot be examined: {reason(failure)}")
    return Finding(level, subject, sentence)


async def _server(conn: Conn, settings: Settings) -> Result:
    if problem := await fitness.unfit_server(conn):
        return "fail", problem
    shown, _ = await fitness.version(conn)
    if not await conn.fetchval(WRITABLE):
        return "fail", f"PostgreSQL {shown} takes no writes: a standby, or default_transaction_read_only is on"
    return "ok", f"PostgreSQL {shown}"


async def _pooler(conn: Conn, settings: Settings) -> Result:
    problem = await fitness.pooled_by_transaction(settings.dsn)
    return ("fail", problem) if problem else ("ok", "each connection keeps its server process")


async def _schema(conn: Conn, settings: Settings) -> Result:
    current = await current_revision(conn)
    state = classify(current)
    if state == "head":
        return "ok", f"at head ({HEAD})"
    if state == "behind":
        remedy = await obstacle(conn)
        remedy = f"before `aitp-cp migrate` can run: {remedy}" if remedy else "run `aitp-cp migrate`"
        return "fail", f"behind ({current or 'nothing yet'}, head is {HEAD}): {remedy}"
    return "fail", f"ahead ({current}): deploy the version that migrated it"


async def _log_sequence(conn: Conn, settings: Settings) -> Result:
    sequence = await numbering.read(conn)
    if sequence.behind:
        return "fail", (
            f"the sequence audit_events_seq gives {sequence.next} next, but the log ends at {sequence.log_end}: events "
            "would be refused or never seen; `aitp-cp migrate`, run by the owner of the sequence, sets it right"
        )
    return "ok", f"is past the end of the log ({sequence.log_end})"


async def _durability(conn: Conn, settings: Settings) -> Result:
    problem = await fitness.undurable(conn)
    return ("warn", problem) if problem else ("ok", "what is answered 200 is on the server's disk")


async def _permissions(conn: Conn, settings: Settings) -> Result:
    lacking = [row[0] for row in await conn.fetch(NOT_ALLOWED, list(TABLES), list(SEQUENCES))]
    if lacking:
        return "fail", f"the role may not read and write {', '.join(lacking)}"
    if hidden := [row[0] for row in await conn.fetch(HIDDEN, list(TABLES))]:
        return "fail", (
            f"row-level security hides rows of {', '.join(hidden)} from this role: disable it there, or use the role "
            "that owns the tables"
        )
    if problem := await obstacle(conn):
        return "info", f"the role may read and write, but not migrate: {problem}"
    return "ok", "the role may read, write and migrate"


async def _clock(conn: Conn, settings: Settings) -> Result:
    theirs: datetime = await conn.fetchval("SELECT clock_timestamp()")
    apart = abs((datetime.now(UTC) - theirs).total_seconds())
    sentence = f"{apart:.1f} s apart from the database's"
    if apart <= CLOCK_WARN_SECS:
        return "ok", sentence
    return ("fail" if apart > CLOCK_FAIL_SECS else "warn"), f"{sentence}: fix time synchronisation"


async def _connections(conn: Conn, settings: Settings) -> Result:
    allowed, used = tuple(await conn.fetchrow(CONNECTIONS) or (0, 0))
    needed = settings.db_pool_max + EXTRA_CONNECTIONS
    sentence = f"{allowed} are allowed, {used} are taken; a process may need {needed}"
    if needed <= allowed - used:
        return "ok", sentence
    return ("fail" if needed > allowed else "warn"), f"{sentence}: lower DB_POOL_MAX, or let the server allow more"


async def _notifications(conn: Conn, settings: Settings) -> Result:
    """Send ourselves one: a pooler that lends a connection per transaction swallows it."""
    arrived = asyncio.Event()
    await conn.add_listener(CHANNEL, lambda *_: arrived.set())
    await conn.execute(f"NOTIFY {CHANNEL}")
    try:
        await asyncio.wait_for(arrived.wait(), NOTIFICATION_SECS)
    except TimeoutError:
        return "warn", "do not arrive; see the row pooler. Events are late by up to a second"
    return "ok", "arrive"


async def _outbox(conn: Conn, settings: Settings) -> Result:
    waiting = await outbox.lag(conn)
    if waiting > OUTBOX_WARN_EVENTS:
        return "warn", f"{waiting} events wait for their webhook deliveries: does any process run jobs?"
    return "ok", "deliveries follow the log"


async def _encryption(conn: Conn, settings: Settings) -> Result:
    encrypted, local = tuple(await conn.fetchrow(ENCRYPTED) or (False, False))
    if encrypted:
        return "ok", "the connection is encrypted"
    if local:
        return "ok", "the database is on this machine"
    return "info", "the connection is not encrypted: add ?sslmode=require unless the network is yours"


async def _read_standby(conn: Conn, settings: Settings) -> Result:
    if settings.database_read_url is None:
        return "info", "DATABASE_READ_URL is unset: the primary answers every read"
    limit = settings.read_max_lag_ms / 1000
    try:
        lag = await standby.measure(settings.database_read_url.get_secret_value(), conn, limit)
    except standby.NotAStandby as other:
        return "fail", f"{other}: the primary answers; see DATABASE_READ_URL"
    except FAILURES as failure:
        return "warn", f"{sentence(failure)}; the primary answers"
    if lag is None:
        return "warn", f"is more than {limit:g} s behind: the primary answers"
    return "ok", f"has what the primary has after {lag:.2f} s"


Examiner = Callable[[Conn, Settings], Awaitable[Result]]
SUBJECTS: tuple[tuple[str, Examiner], ...] = (
    ("database", _server),
    ("pooler", _pooler),
    ("durability", _durability),
    ("schema", _schema),
    ("log sequence", _log_sequence),
    ("permissions", _permissions),
    ("clock", _clock),
    ("connections", _connections),
    ("notifications", _notifications),
    ("webhook outbox", _outbox),
    ("encryption", _encryption),
    ("read standby", _read_standby),
    ("API keys", key_rows.keys),
    ("key expiry", key_rows.expiry),
    ("console", console_rows.console),
)
