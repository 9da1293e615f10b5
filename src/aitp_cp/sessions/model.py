"""A handshake as reported, as stored, and as shown."""

from datetime import datetime
from enum import StrEnum
from typing import Self

import msgspec

from aitp_cp.db.keyset import Key, Order
from aitp_cp.events.model import Event
from aitp_cp.tcts.merging import greatest, least, union
from aitp_cp.tcts.model import TctView

ORDER = Order("sessions", Key("created_at", datetime, descending=True), Key("session_id", str))


class Status(StrEnum):
    STARTED = "started"
    FAILED = "failed"
    COMPLETE = "complete"


# The higher one wins, whichever is reported first.
RANK = {Status.STARTED: 0, Status.FAILED: 1, Status.COMPLETE: 2}


class SessionChange(msgspec.Struct, frozen=True):
    """What the reports of a batch say about one session; `completed_at` and `error` belong to `status`."""

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

    def merged(self, other: Self) -> Self:
        """Both reports in one, by the rules of `store.MERGE`."""
        if self.status == other.status:
            end = self.status, least(self.completed_at, other.completed_at), least(self.error, other.error)
        else:
            winner = max(self, other, key=lambda change: RANK[change.status])
            end = winner.status, winner.completed_at, winner.error
        status, completed_at, error = end
        return msgspec.structs.replace(
            self,
            status=status,
            # Least and greatest, so that two reports that see the sides the other way round still name both agents.
            aid_a=least(self.aid_a, other.aid_a),
            aid_b=greatest(self.aid_b, other.aid_b),
            grants=union(self.grants, other.grants),
            run_id=least(self.run_id, other.run_id),
            boundary=least(self.boundary, other.boundary),
            error=error,
            started_at=least(self.started_at, other.started_at),
            completed_at=completed_at,
        )


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


class SessionList(msgspec.Struct, frozen=True, rename="camel"):
    sessions: list[SessionView]
    next_before: str | msgspec.UnsetType = msgspec.UNSET


class SessionFilter(msgspec.Struct, frozen=True):
    status: str | None = None
    run_id: str | None = None
    aid: str | None = None  # either side
    since: datetime | None = None  # took place then or later


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
