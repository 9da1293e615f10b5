"""Health and readiness; a response of 503 is not an error here."""

import msgspec


class Health(msgspec.Struct, frozen=True):
    ok: bool
    service: str
    aid: str
    db: str


class Readiness(msgspec.Struct, frozen=True, omit_defaults=True):
    """`reason` if not ready: `database_unavailable`, `migrations_pending` or `shutting_down`."""

    ready: bool
    reason: str | None = None
