"""What `check` finds out about API keys: whether there is one, and which one ends soon or should be replaced."""

import asyncpg

from aitp_cp.cli.findings import Result
from aitp_cp.clock import iso
from aitp_cp.db import Connection
from aitp_cp.keys import store
from aitp_cp.settings import Settings

EXPIRY_WARN_DAYS = 14
NAMED = 5  # keys that a row names; it counts the rest


async def keys(conn: Connection, settings: Settings) -> Result:
    """Compare the keys of the database with those of the environment."""
    try:
        live = await store.count_live(conn)
    except asyncpg.UndefinedTableError:
        live = 0
    if live and settings.api_keys:
        return "warn", (
            f"API_KEYS is still set beside {live} in the database, and each of its keys may do everything: move their "
            "callers (`aitp-cp keys create --adopt`), then unset it"
        )
    if live:
        return "ok", f"{live} in the database"
    if settings.api_keys:
        return "ok", f"{len(settings.api_keys)} in API_KEYS, none in the database"
    if settings.production:
        return "fail", "none in the database or in API_KEYS: create one with `aitp-cp keys create NAME --role admin`"
    return "warn", "none in the database or in API_KEYS: the gated routes may be open to anyone"


async def expiry(conn: Connection, settings: Settings) -> Result:
    """Name the keys that end soon."""
    ending = await store.ending(conn, EXPIRY_WARN_DAYS)
    if not ending:
        return "ok", f"no key expires within {EXPIRY_WARN_DAYS} days"
    named = [f"{name} ({id}) at {iso(expires_at)}" for id, name, expires_at in ending[:NAMED]]
    rest = [f"{len(ending) - NAMED} more"] if len(ending) > NAMED else []
    return "warn", f"expire within {EXPIRY_WARN_DAYS} days, create new keys: {', '.join(named + rest)}"
