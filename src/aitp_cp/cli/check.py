"""aitp-cp check: a doctor's table."""

import asyncio
import os
from datetime import UTC, datetime
from typing import Literal

import asyncpg
import typer
from rich.table import Table
from rich.text import Text

from aitp_cp.cli.console import out
from aitp_cp.settings import Settings, SettingsError, findings, load

Level = Literal["ok", "info", "warn", "fail"]
Row = tuple[Level, str, str]

STYLES = {"ok": "green", "info": "blue", "warn": "yellow", "fail": "bold red"}
CONNECT_TIMEOUT_SECS = 5
CLOCK_WARN_SECS = 2.0
CLOCK_FAIL_SECS = 60.0
OLDEST_SERVER = 140_000


def check() -> None:
    """Examine settings, database, schema and clock; exits 1 when anything fails."""
    rows = _examine()
    table = Table("", "what", "finding")
    for level, subject, sentence in rows:
        table.add_row(Text(level, STYLES[level]), subject, Text(sentence))
    out.print(table)
    if any(level == "fail" for level, _, _ in rows):
        raise typer.Exit(1)


def _examine() -> list[Row]:
    try:
        settings = load(os.environ, command="serve")
    except SettingsError as wrong:
        return [("fail", "settings", str(wrong))]
    return [("ok", "settings", "every variable can be read"), *_settings(settings), *asyncio.run(_database(settings))]


def _settings(settings: Settings) -> list[Row]:
    return [(finding.level, finding.variable, finding.sentence) for finding in findings(settings)]


async def _database(settings: Settings) -> list[Row]:
    assert settings.database_url is not None
    try:
        conn = await asyncpg.connect(settings.database_url.get_secret_value(), timeout=CONNECT_TIMEOUT_SECS)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as failure:
        return [("fail", "database", f"cannot be reached ({type(failure).__name__})")]
    try:
        return [_version(conn), await _schema(conn), await _clock(conn)]
    finally:
        await conn.close()


def _version(conn: "asyncpg.Connection[asyncpg.Record]") -> Row:
    version = conn.get_server_version()
    shown = f"PostgreSQL {version.major}.{version.minor}"
    return (
        ("ok", "database", shown)
        if version.major * 10_000 >= OLDEST_SERVER
        else ("fail", "database", f"{shown} is older than 14")
    )


async def _schema(conn: "asyncpg.Connection[asyncpg.Record]") -> Row:
    from aitp_cp.db.migrations import HEAD, classify
    from aitp_cp.db.schema import current_revision

    current = await current_revision(conn)
    state = classify(current)
    if state == "head":
        return "ok", "schema", f"at head ({HEAD})"
    if state == "behind":
        return "fail", "schema", f"behind ({current or 'nothing yet'}, head is {HEAD}): run `aitp-cp migrate`"
    return "fail", "schema", f"ahead ({current}): deploy the version that migrated it"


async def _clock(conn: "asyncpg.Connection[asyncpg.Record]") -> Row:
    theirs: datetime = await conn.fetchval("SELECT clock_timestamp()")
    apart = abs((datetime.now(UTC) - theirs).total_seconds())
    sentence = f"{apart:.1f} s apart from the database's"
    if apart > CLOCK_FAIL_SECS:
        return "fail", "clock", sentence
    return ("warn" if apart > CLOCK_WARN_SECS else "ok"), "clock", sentence
