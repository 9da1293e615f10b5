"""The signed revocation list as its readers take it."""

from datetime import UTC, datetime

import msgspec


class _List(msgspec.Struct, frozen=True):
    published_at: int
    expires_at: int
    entries: list[msgspec.Raw]


class _Envelope(msgspec.Struct, frozen=True):
    revocation_list: _List


class ListFacts(msgspec.Struct, frozen=True):
    entries: int
    published_at: datetime
    expires_at: datetime


def read(body: bytes) -> ListFacts:
    """Return what a list of our own says about itself; checks nothing."""
    signed = msgspec.json.decode(body, type=_Envelope).revocation_list
    times = (datetime.fromtimestamp(secs, UTC) for secs in (signed.published_at, signed.expires_at))
    return ListFacts(len(signed.entries), *times)
