"""aitp-cp check: examine the settings, the machine and the database, and print a table."""

import asyncio
import os
import resource
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import typer
from rich.table import Table
from rich.text import Text

from aitp_cp.cli.examination import examine
from aitp_cp.cli.findings import Finding, findings
from aitp_cp.settings import MIN_SECRET_CHARACTERS, Settings, SettingsError, load
from aitp_cp_client.commands.output import out

STYLES = {"ok": "green", "info": "blue", "warn": "yellow", "fail": "bold red"}
SECRETS = (
    "CP_AID_SEED_HEX",
    "DATABASE_URL",
    "DATABASE_READ_URL",
    "API_KEYS",
    "ENROLLMENT_SECRET",
    "OIDC_CLIENT_SECRET",
)
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
OTHER_FILES = 256  # a process keeps open besides client and database connections


def check() -> None:
    """Examine settings, machine, database, schema and clock; exits 1 when anything fails."""
    rows = _examine(os.environ)
    table = Table("", "what", "finding")
    for level, subject, sentence in rows:
        table.add_row(Text(level, STYLES[level]), subject, Text(sentence))
    out.print(table)
    if any(row.level == "fail" for row in rows):
        raise typer.Exit(1)


def _examine(environ: Mapping[str, str]) -> list[Finding]:
    try:
        settings = load(environ, command="serve")
    except SettingsError as wrong:
        return [Finding("fail", "settings", str(wrong))]
    return [
        Finding("ok", "settings", "every variable can be read"),
        *findings(settings),
        *_exposure(settings),
        *_secret_files(environ),
        _open_files(settings),
        *asyncio.run(examine(settings)),
    ]


def _exposure(settings: Settings) -> Iterator[Finding]:
    """Yield what is harmless in development and risky in production."""
    if not settings.production:
        return
    base = urlsplit(settings.cp_base_url)
    if base.hostname in LOOPBACK:
        yield Finding("warn", "CP_BASE_URL", "names this machine only, and stands in the signed manifest")
    elif base.scheme != "https":
        yield Finding("warn", "CP_BASE_URL", "is not https: the manifest does not advertise the revocation list")
    if any(len(key.get_secret_value()) < MIN_SECRET_CHARACTERS for key in settings.api_keys):
        yield Finding("warn", "API_KEYS", f"holds a key of fewer than {MIN_SECRET_CHARACTERS} characters")


def _secret_files(environ: Mapping[str, str]) -> Iterator[Finding]:
    for name in SECRETS:
        path = environ.get(f"{name}_FILE", "").strip()
        if path and Path(path).stat().st_mode & stat.S_IROTH:
            yield Finding("warn", f"{name}_FILE", "can be read by every user of this machine")


def _open_files(settings: Settings) -> Finding:
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)  # the server raises its soft limit to this
    needed = max(settings.max_sse_connections, settings.max_connections) + settings.db_pool_max + OTHER_FILES
    if allowed == resource.RLIM_INFINITY or allowed >= needed:
        return Finding("ok", "open files", f"{needed} may be needed, the limit allows them")
    return Finding("warn", "open files", f"the limit is {allowed}; MAX_CONNECTIONS and the pool need {needed}")
