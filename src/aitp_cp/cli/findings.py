"""What an operator should know of settings that are allowed."""

from typing import Literal, NamedTuple

from aitp_cp import database_url as urls
from aitp_cp.settings import Settings, weak_keys

Level = Literal["info", "warn", "fail"]


class Finding(NamedTuple):
    """Something an operator should know; `fail` makes `aitp-cp check` fail, nothing here stops a start."""

    level: Level
    variable: str
    sentence: str


def findings(settings: Settings) -> list[Finding]:
    """Return what is allowed but deserves a warning, or in production a failing check."""
    found: list[Finding] = []
    production = settings.production
    if settings.cors_origin is None:
        sentence = (
            "is required in production: any origin may read answers"
            if production
            else "is unset: any origin may read answers"
        )
        found.append(Finding("fail" if production else "warn", "CORS_ORIGIN", sentence))
    elif "*" in settings.cors_origin:
        found.append(Finding("warn", "CORS_ORIGIN", "is *: any origin may read answers"))
    if production and (weak := weak_keys(settings)):
        found.append(Finding("fail", "API_KEYS", f"{weak}, and API_KEYS_ALLOW_WEAK lets it pass"))
    if not settings.api_keys:
        sentence = "is empty: only keys in the database open the gated routes"
        if not production:
            sentence = "is empty: the gated routes are open to anyone while the database has no key either"
        found.append(Finding("info" if production else "warn", "API_KEYS", sentence))
    for name, url in (("DATABASE_URL", settings.database_url), ("DATABASE_READ_URL", settings.database_read_url)):
        notices = [] if url is None else urls.read(url.get_secret_value()).notices
        found += [Finding("warn", name, f"holds a parameter of another client: {said}") for said in notices]
    if settings.cp_aid_seed_hex is None:
        found.append(
            Finding("warn", "CP_AID_SEED_HEX", "is unset: the identity is a fresh one and ends with this process")
        )
    return found
