"""What a client's last event id means against what the log holds now."""

from typing import Literal

import msgspec

from aitp_cp.events.model import LogExtent

# Stands for an id that is not a position of any log.
UNKNOWN = -1

Verdict = Literal["known", "cursor_expired", "cursor_unknown"]


def parse(text: str | None) -> int | None:
    """Return the position a client names; None when it names none."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 19:
        return UNKNOWN
    return int(text) if int(text) < 2**63 else UNKNOWN


def judge(cursor: int, extent: LogExtent) -> Verdict:
    """Return whether the log still holds everything after a cursor, and the cursor itself.

    A gap in the sequence proves no deletion, for a rollback leaves one too; the horizon does. Deletions that went past
    it (an older control plane's, or by hand) show only in a cursor that lies before everything there is.
    """
    if not 0 <= cursor <= max(extent.newest or 0, extent.deleted_through):
        return "cursor_unknown"
    if cursor < extent.deleted_through:
        return "cursor_expired"
    swept = cursor == extent.deleted_through or cursor < (extent.oldest or 0)
    return "cursor_expired" if cursor and swept and not extent.holds_cursor else "known"


def oldest(extent: LogExtent) -> int:
    """Return the oldest position there is, or else the first one that can still come."""
    return extent.deleted_through + 1 if extent.oldest is None else extent.oldest


def reset_frame(reason: Verdict, extent: LogExtent) -> bytes:
    """Said aloud rather than passed over: the client has missed something (contract, section 9)."""
    return b"event: reset\ndata: %b\n\n" % msgspec.json.encode({"reason": reason, "oldest": oldest(extent)})
