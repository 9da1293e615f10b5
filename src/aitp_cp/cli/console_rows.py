"""What `check` finds out about the console: whether browsers keep a session, and who may administer."""

from aitp_cp.accounts import store as accounts
from aitp_cp.cli.findings import Result
from aitp_cp.db import Connection
from aitp_cp.keys import store as keys
from aitp_cp.settings import Settings

ADMIN = "admin"


async def console(conn: Connection, settings: Settings) -> Result:
    if not settings.console_enabled:
        return "ok", "is switched off"
    if settings.production and not (settings.console_origin or settings.cp_base_url).startswith("https://"):
        return "warn", "neither CP_BASE_URL nor CONSOLE_ORIGIN is https: browsers keep no session from elsewhere"
    if by_environment := await accounts.count_by_environment(conn):
        return "warn", (
            f"{by_environment} sign-ins of the last hours used a key of API_KEYS, which names nobody and may do "
            "everything: create a key for each person (`aitp-cp keys create NAME --role operator`), or set OIDC_ISSUER"
        )
    has_admin = settings.api_keys or ADMIN in settings.oidc_role_map.values() or await keys.has_admin(conn)
    if not has_admin:
        return "warn", "nobody may administer it: create a key with `aitp-cp keys create NAME --role admin`"
    return "ok", "single sign-on" if settings.oidc_issuer else "sign-in by API key"
