"""A note as given, stored and shown."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from aitp_cp.db.keyset import Key, Order
from aitp_cp.web.query import AidFilter, PageQuery

MAX_OWNER = 128
MAX_NOTE = 4000
MAX_LABELS = 20
MAX_LABEL = 64

ORDER = Order("notes", Key("updated_at", datetime, descending=True), Key("aid", str))

Label = Annotated[str, Meta(min_length=1, max_length=MAX_LABEL)]


class NewNotes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The request body: it replaces everything noted before."""

    owner: Annotated[str, Meta(min_length=1, max_length=MAX_OWNER)] | None = None
    note: Annotated[str, Meta(max_length=MAX_NOTE)] | None = None
    labels: Annotated[list[Label], Meta(max_length=MAX_LABELS)] = []


class Notes(msgspec.Struct, frozen=True, rename="camel"):
    aid: str
    owner: str | None
    note: str | None
    labels: msgspec.Raw
    updated_by: str
    updated_at: str


class NotesList(msgspec.Struct, frozen=True, rename="camel"):
    notes: list[Notes]
    next_before: str | msgspec.UnsetType = msgspec.UNSET


class NotesQuery(PageQuery, frozen=True, kw_only=True, rename="camel"):
    aid: Annotated[AidFilter | None, Meta(description="one agent")] = None
    owner: Annotated[str | None, Meta(description="exact owner")] = None
    label: Annotated[str | None, Meta(description="agents with this label")] = None
