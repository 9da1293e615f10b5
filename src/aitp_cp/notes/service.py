"""Reading and writing notes; every change is in the audit, without the text of the note."""

from datetime import datetime

from aitp_cp.audit import service as audit
from aitp_cp.audit.model import Actor
from aitp_cp.db import Connection
from aitp_cp.errors import BadRequest, BodyInvalid, existing
from aitp_cp.notes import store
from aitp_cp.notes.model import NewNotes, Notes

NOTHING = "nothing is noted about this agent"
MAX_AID = 512  # characters, also of an id in an event that is no AID


async def get(conn: Connection, aid: str) -> Notes:
    """Return what is noted about an agent; raises `NotFound`."""
    return existing(await store.find(conn, aid), NOTHING)


async def put(conn: Connection, aid: str, new: NewNotes, actor: Actor, now: datetime) -> Notes:
    """Replace what is noted about an agent, which need not be registered.

    Raises `BadRequest` for an AID that is too long, `BodyInvalid` for control characters in an owner or a label.
    """
    if not 0 < len(aid) <= MAX_AID:
        raise BadRequest(f"the AID is longer than {MAX_AID} characters")
    _check(new)
    known = await store.lock(conn, aid)
    stored = await store.upsert(conn, aid, new, actor.name or actor.id, now)
    details = {"owner": new.owner, "labels": new.labels, "noteChanged": (known.note if known else None) != new.note}
    previous = {} if known is None else {"previousOwner": known.owner, "previousLabels": known.labels}
    await audit.record(conn, "agent-notes.update", actor, aid, {**details, **previous}, now)
    return stored


async def delete(conn: Connection, aid: str, actor: Actor, now: datetime) -> None:
    """Forget what is noted about an agent; raises `NotFound`."""
    known = existing(await store.lock(conn, aid), NOTHING)
    await store.delete(conn, aid)
    await audit.record(conn, "agent-notes.delete", actor, aid, {"owner": known.owner, "labels": known.labels}, now)


def _check(new: NewNotes) -> None:
    for name, text in (("owner", new.owner or "x"), *(("a label", label) for label in new.labels)):
        if not text.isprintable() or not text.strip():
            raise BodyInvalid(f"{name} must be text without control characters")
