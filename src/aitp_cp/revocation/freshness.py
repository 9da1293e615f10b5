"""When a signed list may be served, and when the next one is due (contract, section 11). No clock and no I/O."""

from datetime import datetime
from typing import NamedTuple

import msgspec

RESIGN_SECS = 60.0
RENEW_AT = 0.75  # of the period: early enough that no request finds the list too old
# The tail reads the log every second. While it does not, changes stay unknown, and a list may be this old.
FOLLOWED_SECS = 2.0
UNFOLLOWED_SECS = 0.5


class Moment(NamedTuple):
    """The same moment on both clocks."""

    time: datetime
    tick: float  # seconds of the monotonic clock

    def secs_until(self, later: "Moment") -> float:
        """Return the longer of both distances: one clock may be set, the other may stop while the machine sleeps."""
        return max((later.time - self.time).total_seconds(), later.tick - self.tick)


class Change(NamedTuple):
    """The newest known change of the table: its event's `seq`, and how many changes came without an event."""

    seq: int = 0
    without_event: int = 0


class Reading(msgspec.Struct, frozen=True):
    """When the table was read, the newest change that was known then, and the version that it had at least."""

    at: Moment
    change: Change
    table: int


class Freshness(msgspec.Struct, frozen=True):
    """The ages, in seconds, at which a list is renewed (`period`) and is no longer served at all (`limit`)."""

    period: float
    limit: float

    @classmethod
    def of(cls, ttl_secs: int, max_staleness_secs: int) -> "Freshness":
        limit = float(min(ttl_secs, max_staleness_secs))
        return cls(max(1.0, min(RESIGN_SECS, limit)), limit)

    @property
    def due_secs(self) -> float:
        """The age at which the renewal begins."""
        return self.period * RENEW_AT

    def is_fresh(self, reading: Reading, change: Change, now: Moment, tail_behind_secs: float) -> bool:
        """Return whether the list may be served without asking: nothing has changed, and changes would be known."""
        followed = tail_behind_secs < FOLLOWED_SECS
        allowed = self.period if followed else UNFOLLOWED_SECS
        return reading.change == change and reading.at.secs_until(now) < allowed
