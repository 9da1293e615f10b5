"""What `check` finds out about the console: whether browsers keep a session, and who may administer."""

from typing import Literal, TypeAlias

import asyncpg

from aitp_cp.accounts import store as accounts
from aitp_cp.keys import store as keys
from aitp_cp.settings import Settings

Finding = tuple[Literal["ok", "info", "warn", "fail"], str]
Conn: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

ADMIN = "admin"


async def console(conn: Conn, settings: Settings) -> Finding:
    if not settings.console_enabled:
        return "ok", "is switched off"
    if settings.production and not (settings.console_origin or settings.cp_base_url).startswith("https://"):
        return "warn", "neither CP_BASE_URL nor CONSOLE_ORIGIN is https: browsers keep no session from elsewhere"
    try:
        by_environment = await accounts.count_by_environment(conn)
        has_admin = await keys.has_admin(conn)
    except asyncpg.UndefinedTableError:
        return "info", "comes with the migration"
    if by_environment:
        return "warn", (
            f"{by_environment} sign-ins of the last hours used a key of API_KEYS, which names nobody and may do "
            "everything: create a key for each person (`aitp-cp keys create NAME --role operator`), or set OIDC_ISSUER"
        )
    if not (has_admin or settings.api_keys or ADMIN in settings.oidc_role_map.values()):
        return "warn", "nobody may administer it: create a key with `aitp-cp keys create NAME --role admin`"
    return "ok", "single sign-on" if settings.oidc_issuer else "sign-in by API key"
