"""How a room keeps its rows in step with reported events."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from aitp_cp.db import Connection
from aitp_cp.protocol.reports import Report


class Refusal(msgspec.Struct, frozen=True):
    """A report that is stored and projects nothing; `field` and `reason` as in the response to its batch."""

    event_id: UUID
    field: str
    reason: str


NOT_A_PARTY = ("aid_a", "not a party")


class Caught(msgspec.Struct, frozen=True):
    """A token or delegation that was reported of a contained agent, and the containment.

    It is revoked; what is `verified` and `live` belongs onto the signed list, too.
    """

    jti: UUID
    containment: UUID
    verified: bool
    live: bool
    parties: tuple[str, str]


class Effect(msgspec.Struct, frozen=True):
    """What a projection did: the reports it refused, the AIDs it found beside those of the events, what it revoked."""

    refusals: list[Refusal] = []
    aids: set[str] = set()
    caught: list[Caught] = []


Thing = tuple[str, UUID | str]  # a kind of row, and the key of one


class Claim(msgspec.Struct, frozen=True):
    """A row that a report would change, and its parties as the report has them.

    `proven` when their own signature in the report says so.
    """

    thing: Thing
    parties: frozenset[str]
    proven: bool = False


class StoredParties(msgspec.Struct, frozen=True):
    """The parties of a row, and the first caller that reported it."""

    parties: frozenset[str]
    reported_by: str | None


class Projection(msgspec.Struct, frozen=True):
    """`apply` writes what reports of these types, received at a time, say; it runs before the log is locked.

    `claims` returns the rows that a report would change, `stored` what is known of some of them.
    """

    types: frozenset[str]
    apply: Callable[[Connection, Sequence[Report], datetime], Awaitable[Effect]]
    claims: Callable[[Report, datetime], Iterable[Claim]]
    stored: Callable[[Connection, Collection[Thing]], Awaitable[Mapping[Thing, StoredParties]]]
