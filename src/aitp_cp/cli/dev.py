"""aitp-cp dev: everything on one machine, nothing to set up."""

import os
import secrets
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aitp_cp.cli.exits import DATABASE, settings_or_stop
from aitp_cp_client.commands.output import notices, stop

if TYPE_CHECKING:
    from aitp_cp.settings import Settings

HOME = Path(".aitp-cp")
SECRETS = "secrets.env"


def dev() -> None:
    """Serve with an embedded Postgres and kept development secrets under .aitp-cp/."""
    environ = {**_kept_secrets(HOME), **os.environ}
    if environ.get("DATABASE_URL") or environ.get("DATABASE_URL_FILE"):
        _serve(environ)
        return
    from aitp_cp.cli import running
    from aitp_cp.db.embedded import EmbeddedError, start

    # Until the server listens nothing else handles this signal, and Postgres must not be left behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        server = start(HOME)
    except EmbeddedError as failure:
        stop(str(failure), DATABASE)
    with server:
        running.before_leaving(server.stop)
        _serve({**environ, "DATABASE_URL": server.dsn()}, f"embedded Postgres, log in {server.log_file}")


def _serve(environ: dict[str, str], database: str = "DATABASE_URL") -> None:
    """Bring the database to this version's schema, and serve it."""
    settings = settings_or_stop("dev", environ)
    from aitp_cp.cli import process, running
    from aitp_cp.cli.migrate import upgrade_or_stop
    from aitp_cp.telemetry import logging

    upgrade_or_stop(settings, every_step=False)
    url = f"http://{settings.host_in_url}:{settings.port}"
    keyed = bool(settings.api_keys) or running.run(lambda ending: _keys_exist(settings))
    _say_where_things_are(settings, url, database, keyed=keyed)
    process.announce(settings)

    def listening() -> None:
        logging.flush()
        _say(f"\n  ready at {url}\n")

    process.serve(settings, jobs=True, listening=listening)


async def _keys_exist(settings: "Settings") -> bool:
    """Return whether somebody has created a key, which closes the gate."""
    from aitp_cp.cli.database import opened
    from aitp_cp.keys import store

    async with opened(settings) as db, db.connection() as conn:
        return await store.exist(conn)


def _say_where_things_are(settings: "Settings", url: str, database: str, *, keyed: bool) -> None:
    credential = '-H "Authorization: Bearer $KEY"'
    places = {
        **({"console": f"{url}/console/"} if settings.console_enabled else {}),
        "database": database,
        "secrets": str(HOME / SECRETS),
        "try": f"curl -s{f' {credential}' if keyed else ''} '{url}/api/events/history?limit=5'",
        "": "KEY is an API key that may read events" if keyed else f"once there is an API key, with {credential}",
    }
    _say("".join(f"\n  {name:<11}{place}" for name, place in places.items()) + "\n")


def _say(lines: str) -> None:
    notices.print(lines, highlight=False, markup=False, soft_wrap=True)


def _kept_secrets(home: Path) -> dict[str, str]:
    """Return the secrets of this checkout, made on first use and readable by their owner alone."""
    home.mkdir(mode=0o755, exist_ok=True)
    path = home / SECRETS
    if not path.exists():
        lines = f"CP_AID_SEED_HEX={secrets.token_hex(32)}\nENROLLMENT_SECRET={secrets.token_urlsafe(48)}\n"
        part = path.with_suffix(f".{os.getpid()}.part")
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
            file.write(lines)
        part.rename(path)
    pairs = (line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
    return {name: value for name, value in pairs if not os.environ.get(f"{name}_FILE")}
