"""A batch on its way into the database, and the response to its reporter."""

from typing import NamedTuple
from uuid import UUID

import msgspec

from aitp_cp.events.projection import Refusal
from aitp_cp.idempotency.model import ApiResponse, Once
from aitp_cp.protocol.reports import Batch, Problem


class IngestAnswer(msgspec.Struct, frozen=True):
    """`ingested` = `inserted` + `duplicates`.

    `errors` shows at most 20 of the items that were dropped, or stored without effect on sessions and tokens.
    """

    ingested: int
    inserted: int
    duplicates: int
    dropped: int
    errors: list[Problem]


class Submission(NamedTuple):
    """A batch, and the request it is part of where that has an Idempotency-Key."""

    batch: Batch
    once: Once | None = None


class StoredGroup(NamedTuple):
    """The ids that were new in a group, by id what is stored and projects nothing, and the agents heard of."""

    new: set[UUID]
    refusals: dict[UUID, Refusal]
    seen: frozenset[str] = frozenset()


class Stored(NamedTuple):
    """The response to a submission, once its events are committed; `counts` is None where it is an older response.

    `seen` are the agents whose `last_seen_at` the commit has moved.
    """

    response: ApiResponse
    counts: IngestAnswer | None
    seen: frozenset[str] = frozenset()
