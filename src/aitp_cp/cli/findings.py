"""Findings of `check`, and those about settings that are allowed."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from aitp_cp import database_url as urls
from aitp_cp.settings import Settings, weak_keys

Level = Literal["ok", "info", "warn", "fail"]
Result: TypeAlias = tuple[Level, str]  # of the examination of one subject: level and sentence


class Finding(NamedTuple):
    """A line of the table that `check` prints; `fail` makes it fail. `subject` is a variable or what was examined."""

    level: Level
    subject: str
    sentence: str


def findings(settings: Settings) -> Iterator[Finding]:
    """Yield what is allowed but deserves a warning, or in production a failing check; nothing here stops a start."""
    production = settings.production
    if settings.cors_origin is None:
        required = "is required in production" if production else "is unset"
        yield Finding("fail" if production else "warn", "CORS_ORIGIN", f"{required}: any origin may read answers")
    elif "*" in settings.cors_origin:
        yield Finding("warn", "CORS_ORIGIN", "is *: any origin may read answers")
    if production and (weak := weak_keys(settings)):
        yield Finding("fail", "API_KEYS", f"{weak}, and API_KEYS_ALLOW_WEAK lets it pass")
    if not settings.api_keys:
        sentence = "is empty: only keys in the database open the gated routes"
        if not production:
            sentence = "is empty: the gated routes are open to anyone while the database has no key either"
        yield Finding("info" if production else "warn", "API_KEYS", sentence)
    for name, url in (("DATABASE_URL", settings.database_url), ("DATABASE_READ_URL", settings.database_read_url)):
        for notice in [] if url is None else urls.read(url.get_secret_value()).notices:
            yield Finding("warn", name, f"holds a parameter of another client: {notice}")
    if settings.cp_aid_seed_hex is None:
        sentence = "is unset: the identity is a fresh one and ends with this process"
        yield Finding("warn", "CP_AID_SEED_HEX", sentence)
