"""How a room keeps its rows in step with reported events."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from aitp_cp.db import Connection
from aitp_cp.protocol.reports import Report


class Refusal(msgspec.Struct, frozen=True):
    """A report that is stored and projects nothing; `field` and `reason` as in the answer to its batch."""

    event_id: UUID
    field: str
    reason: str


class Caught(msgspec.Struct, frozen=True):
    """A token or delegation that was reported of a contained agent, and the containment.

    It is revoked; what is `verified` and `live` belongs onto the signed list, too.
    """

    jti: UUID
    containment: UUID
    verified: bool
    live: bool


class Effect(msgspec.Struct, frozen=True):
    """What a projection did: the reports it refused, the AIDs it found beside those of the events, what it revoked."""

    refusals: list[Refusal] = []
    aids: set[str] = set()
    caught: list[Caught] = []


class Projection(msgspec.Struct, frozen=True):
    """`apply` writes what reports of these types, received at a time, say; it runs before the log is locked."""

    types: frozenset[str]
    apply: Callable[[Connection, Sequence[Report], datetime], Awaitable[Effect]]
