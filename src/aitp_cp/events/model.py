"""An event on its way into the log, and as everyone reads it."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from aitp_cp.db.keyset import Key, Order
from aitp_cp.errors import FilterInvalid
from aitp_cp.protocol.reports import Proof
from aitp_cp.protocol.vocabulary import OWN_SOURCE
from aitp_cp.web.query import AidFilter, PageQuery

MAX_SEQ = 2**63 - 1
# What a legacy writer stored has no place in the log for some seconds; it comes first among the events of its time.
HISTORY_ORDER = Order("events", Key("ts", datetime, descending=True), Key("seq", int, descending=True, absent=MAX_SEQ))


class NewEvent(msgspec.Struct, frozen=True):
    """What `append` takes; `payload` is JSON text, `grants` None when the report carries none."""

    id: UUID
    type: str
    ts: datetime
    payload: str
    aid_a: str | None = None
    aid_b: str | None = None
    session_id: str | None = None
    run_id: str | None = None
    grants: list[str] | None = None
    source: str | None = OWN_SOURCE
    reported_by: str | None = None
    proof: Proof | None = None


class Event(msgspec.Struct, frozen=True, rename="camel"):
    """The wire form (contract, section 9); `seq` is its place in the log, null only before adoption.

    `reported_by` is the agent that reported it, null where nobody proved to be one. `proof` is null for the control
    plane's own events, and for those of an older version.
    """

    id: UUID
    type: str
    ts: str
    aid_a: str | None
    aid_b: str | None
    session_id: str | None
    run_id: str | None
    grants: msgspec.Raw
    payload: msgspec.Raw
    source: str | None
    seq: int | None
    reported_by: str | None = None
    proof: str | None = None


class HistoryPage(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    events: list[Event]
    count: int
    next_after: int | None = None
    next_before: str | msgspec.UnsetType = msgspec.UNSET


EventType = Annotated[
    str | None, Meta(description="exact event type, or its beginning up to a dot: `handshake.` or `handshake.*`")
]
EitherSide = Annotated[AidFilter | None, Meta(description="either side")]
OfRun = Annotated[str | None, Meta(description="run")]
OfReporter = Annotated[AidFilter | None, Meta(description="the agent that reported it")]
OfProof = Annotated[Proof | None, Meta(description="how its reporter is known")]


class HistoryFilter(PageQuery, frozen=True, kw_only=True, rename="camel"):
    """The query of the history. `types` and `adopted` are no parameters: readers within the server use them."""

    type: EventType = None
    aid: EitherSide = None
    session_id: Annotated[str | None, Meta(description="session")] = None
    run_id: OfRun = None
    since: Annotated[datetime | None, Meta(description="inclusive, ISO-8601")] = None
    until: Annotated[datetime | None, Meta(description="inclusive, ISO-8601")] = None
    order: Annotated[Literal["asc", "desc"], Meta(description="`asc` pages the log in sequence order")] = "desc"
    after: Annotated[
        str | None,
        Meta(
            description="with `order=asc`: the sequence number to continue from",
            extra_json_schema={"pattern": "^[0-9]{1,19}$"},
        ),
    ] = None
    reported_by: OfReporter = None
    proof: OfProof = None
    types: tuple[str, ...] | None = None
    adopted: bool | None = None

    @property
    def position(self) -> int | None:
        """The sequence number that `after` names; raises `FilterInvalid`."""
        if self.after is None:
            return None
        if not (self.after.isascii() and self.after.isdigit()) or len(self.after) > 19:
            raise FilterInvalid("after is not a sequence number")
        return min(int(self.after), MAX_SEQ)


def type_prefix(type: str | None) -> str | None:
    """Return what the types begin with that `handshake.` or `handshake.*` stands for; None for an exact type."""
    head = (type or "").removesuffix("*")
    return head if head.endswith(".") else None


class TypeCount(msgspec.Struct, frozen=True):
    type: str
    count: int


class EventTypes(msgspec.Struct, frozen=True):
    """The vocabulary and every other type in the log, most frequent first; `counted` is how many events were."""

    types: list[TypeCount]
    counted: int


class StreamQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    type: EventType = None
    run_id: OfRun = None
    aid: EitherSide = None
    reported_by: OfReporter = None
    proof: OfProof = None
    last_event_id: Annotated[
        str | None, Meta(description="continue after this sequence number, like the header Last-Event-ID")
    ] = None


class LogSpan(msgspec.Struct, frozen=True):
    """Which part of the log to read: positions in (after, through], at most `rows`, payloads of about `size` bytes."""

    after: int
    through: int
    rows: int
    size: int


class LogPage(msgspec.Struct, frozen=True):
    """Events in log order up to position `last`, whether the span holds `more`, and how far retention had deleted.

    `anchor` is the id of the event at the position before the span.
    """

    events: list[Event]
    last: int
    more: bool
    deleted_through: int
    anchor: UUID | None = None


class LogReach(msgspec.Struct, frozen=True):
    """The position that a number of rows reaches, None with no row, and the newest position of all."""

    through: int | None
    newest: int


class LogExtent(msgspec.Struct, frozen=True):
    """What the log holds now, and whether `cursor` is the position of an event in it."""

    oldest: int | None
    newest: int | None
    deleted_through: int
    holds_cursor: bool


class CapabilityCount(msgspec.Struct, frozen=True):
    capability: str
    count: int


class Invocations(msgspec.Struct, frozen=True):
    """How many there were, and of which capabilities most; those that name none count in the total alone."""

    total: int
    top: list[CapabilityCount]
