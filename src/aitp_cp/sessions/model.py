"""A handshake as reported, as stored, and as shown."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

import msgspec
from msgspec import Meta

from aitp_cp.db.keyset import Key, Order
from aitp_cp.errors import BadRequest
from aitp_cp.events.model import Event
from aitp_cp.tcts.callers import State
from aitp_cp.tcts.merging import differ, is_agent, least, union
from aitp_cp.tcts.views import TctView
from aitp_cp.web.query import AidFilter, EventLimit, Limit, PageQuery

ORDER = Order("sessions", Key("created_at", datetime, descending=True), Key("session_id", str))


class Status(StrEnum):
    STARTED = "started"
    FAILED = "failed"
    COMPLETE = "complete"


# The higher one wins, whichever is reported first.
RANK = {Status.STARTED: 0, Status.FAILED: 1, Status.COMPLETE: 2}


class SessionChange(State, frozen=True):
    """What a caller reported of one session; `completed_at` and `error` belong to `status`.

    `ended` is the caller's place among those that reported an end, by their first report of one. `claimed` tells that
    some of the grants stand on the caller's word: not in a verified token between the two sides.
    """

    session_id: str
    status: Status
    aid_a: str | None
    aid_b: str | None
    grants: list[str]
    run_id: str | None
    boundary: str | None
    error: str | None
    started_at: datetime | None
    completed_at: datetime | None
    ended: int | None = None
    claimed: bool = True

    @property
    def is_in_columns(self) -> bool:
        return self.claimed == bool(self.grants)

    def merged(self, other: Self) -> Self:
        """`complete` wins over `failed`, and either over `started`."""
        status = max(self.status, other.status, key=RANK.__getitem__)
        ends = [change for change in (self, other) if change.status is status]
        return msgspec.structs.replace(
            self,
            status=status,
            # Least and greatest, so that two reports that see the sides the other way round still name both agents.
            aid_a=min(_best(self.aid_a, other.aid_a), default=None),
            aid_b=max(_best(self.aid_b, other.aid_b), default=None),
            grants=union(self.grants, other.grants),
            run_id=least(self.run_id, other.run_id),
            boundary=least(self.boundary, other.boundary),
            error=least(ends[0].error, ends[-1].error),
            started_at=least(self.started_at, other.started_at),
            completed_at=least(ends[0].completed_at, ends[-1].completed_at),
            ended=least(self.ended, other.ended),
            claimed=self.claimed or other.claimed,
        )

    def filled(self, other: Self) -> Self:
        """Return both changes as one, with the end that was reported first."""
        aid_a = _side((self.aid_a, other.aid_a, other.aid_b), self.aid_b)
        aid_b = _side((self.aid_b, other.aid_b, other.aid_a), aid_a)
        ends = [change for change in (self, other) if change.ended is not None]
        end = min(ends, key=lambda change: change.ended or 0) if ends else self
        return msgspec.structs.replace(
            self,
            status=end.status,
            aid_a=aid_a,
            aid_b=aid_b,
            grants=self.grants or other.grants,
            run_id=self.run_id or other.run_id,
            boundary=self.boundary or other.boundary,
            error=end.error,
            started_at=self.started_at or other.started_at,
            completed_at=end.completed_at,
            ended=end.ended,
            claimed=(self if self.grants else other).claimed,
        )

    def disputes(self, row: Self) -> bool:
        """About who took part, on whichever side, about the end, or about the grants.

        Each side of a handshake has a clock and a boundary of its own, and sees itself as the first. It also holds a
        token of its own, so grants of two verified tokens may differ.
        """
        third_agent = len({self.aid_a, self.aid_b, row.aid_a, row.aid_b} - {None}) > 2
        other_end = Status.STARTED not in {self.status, row.status} and self.status != row.status
        other_grants = (self.claimed or row.claimed) and differ(self.grants, row.grants)
        return third_agent or other_end or other_grants

    def placed(self, before: Sequence[Self]) -> Self:
        if self.status is Status.STARTED or self.ended is not None:
            return self
        return msgspec.structs.replace(self, ended=sum(change.ended is not None for change in before))

    def columns(self) -> tuple[Any, ...]:
        return msgspec.structs.astuple(msgspec.structs.replace(self, ended=None, claimed=True))


def _best(*names: str | None) -> list[str]:
    """Return those that are agents, or all of them where none is."""
    known = [name for name in names if name is not None]
    return [name for name in known if is_agent(name)] or known


def _side(names: Sequence[str | None], opposite: str | None) -> str | None:
    """Return the first name for one side of a handshake, agents first; nobody shakes hands with himself."""
    known = [name for name in names if name is not None and name != opposite]
    return next(iter(_best(*known)), names[0])


class SessionView(msgspec.Struct, frozen=True, rename="camel"):
    """The record of contract section 10."""

    session_id: str
    aid_a: str | None
    aid_b: str | None
    status: str
    grants: msgspec.Raw
    run_id: str | None
    boundary: str | None
    error: str | None
    started_at: str | None
    completed_at: str | None
    created_at: str
    updated_at: str
    conflict: bool  # callers disagree about it


class SessionList(msgspec.Struct, frozen=True, rename="camel"):
    sessions: list[SessionView]
    next_before: str | msgspec.UnsetType = msgspec.UNSET


class LastSession(msgspec.Struct, frozen=True):
    """The newest session of an agent."""

    peer: str | None
    status: str
    at: datetime


class Peer(msgspec.Struct, frozen=True):
    """Whom an agent met: when last, and how its newest sessions ended."""

    aid: str
    last_at: datetime
    complete: int
    failed: int


class SessionCount(msgspec.Struct, frozen=True):
    status: str
    boundary: str | None
    bucket: datetime
    count: int


class Failed(msgspec.Struct, frozen=True):
    """Failed handshakes, and the agent that took part in most of the `newest` ones."""

    hour: int
    day: int
    newest: int
    aid: str | None
    of_aid: int | None


class SessionFilter(PageQuery, frozen=True, kw_only=True, rename="camel"):
    """A status that no session has matches none."""

    status: Annotated[str | None, Meta(description="status", extra_json_schema={"enum": list(Status)})] = None
    run_id: Annotated[str | None, Meta(description="sessions of one run")] = None
    aid: Annotated[AidFilter | None, Meta(description="either side")] = None
    since: Annotated[datetime | None, Meta(description="it took place then or later; ISO-8601")] = None
    until: Annotated[datetime | None, Meta(description="it took place then or earlier; ISO-8601")] = None
    boundary: Annotated[str | None, Meta(description="exact boundary")] = None
    error: Annotated[str | None, Meta(description="exact error of a failed handshake")] = None
    limit: Limit = 200


class ReplayQuery(msgspec.Struct, frozen=True, kw_only=True):
    REFUSAL: ClassVar = BadRequest

    since: Annotated[datetime | None, Meta(description="inclusive, ISO-8601")] = None
    until: Annotated[datetime | None, Meta(description="inclusive, ISO-8601")] = None
    limit: EventLimit = 1000


class SessionDetail(msgspec.Struct, frozen=True):
    session: SessionView
    events: list[Event]


class SessionExport(msgspec.Struct, frozen=True, rename="camel"):
    session: SessionView
    tcts: list[TctView]
    events: list[Event]
    exported_at: str


class Replay(msgspec.Struct, frozen=True, rename="camel"):
    session_id: str
    count: int
    events: list[Event]
