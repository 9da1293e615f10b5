"""`aitp-cp retention run` as an operator calls it."""

import asyncio
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import asyncpg

from tests.retention.rows import INSERT, add, count
from tests.support.app import ENVIRONMENT

LONG_AGO = datetime.now(UTC) - timedelta(days=5000)


def run(database_url: str, *arguments: str, **environment: str) -> str:
    """What it prints; the command must end well."""
    command = [sys.executable, "-m", "aitp_cp", "retention", "run", *arguments]
    given = {**ENVIRONMENT, "DATABASE_URL": database_url, "COLUMNS": "100", **environment}
    given |= {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, env=given, capture_output=True, text=True, check=True, timeout=60).stdout


def row(table: str, shown: str) -> list[str]:
    """The cells of one table's line."""
    (line,) = [line for line in shown.splitlines() if re.search(rf"\b{table}\b", line)]
    return [cell.strip() for cell in re.split("[│┃|]", line) if cell.strip()]


async def counted(database_url: str, *, rows: int = 0) -> int:
    conn = await asyncpg.connect(database_url)
    await add(conn, INSERT["idempotency_keys"], LONG_AGO, rows)
    found = await count(conn, "idempotency_keys")
    await conn.close()
    return found


def test_it_counts_and_then_deletes_batch_by_batch_until_nothing_is_due(database_url: str) -> None:
    assert asyncio.run(counted(database_url, rows=25)) == 25
    small = {"RETENTION_BATCH_LIMIT": "10", "RETENTION_ENABLED": "false", "ADMIN_AUDIT_TTL_DAYS": "0"}

    dry = run(database_url, "--dry-run", **small)
    assert row("idempotency_keys", dry) == ["idempotency_keys", "7 days", "25"]
    assert row("admin_audit_log", dry) == ["admin_audit_log", "for ever", "0"]
    assert row("enrollment_jtis", dry) == ["enrollment_jtis", "until they expire", "0"]
    assert asyncio.run(counted(database_url)) == 25

    assert row("idempotency_keys", run(database_url, **small)) == ["idempotency_keys", "7 days", "25", "25"]
    assert asyncio.run(counted(database_url)) == 0
    assert row("idempotency_keys", run(database_url)) == ["idempotency_keys", "7 days", "0", "0"]
