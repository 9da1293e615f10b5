"""Answers to probes."""

import msgspec


class Health(msgspec.Struct, frozen=True):
    ok: bool
    service: str
    aid: str
    db: str


class Alive(msgspec.Struct, frozen=True):
    ok: bool


class Readiness(msgspec.Struct, frozen=True, omit_defaults=True):
    ready: bool
    reason: str | None = None
