"""POST /api/events."""

from typing import Any
from uuid import uuid4

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.db import Connection
from aitp_cp.errors import BodyInvalid, PayloadTooLarge
from aitp_cp.idempotency.edge import answer_once
from aitp_cp.idempotency.model import Answer
from aitp_cp.ingest import service
from aitp_cp.ingest.model import IngestAnswer
from aitp_cp.ingest.writer import Writer
from aitp_cp.protocol.reports import Batch, normalise
from aitp_cp.runtime import Runtime
from aitp_cp.web.body import read_body
from aitp_cp.web.context import context_of
from aitp_cp.web.endpoint import EVENTS_BODY_LIMIT, Endpoint, links
from aitp_cp.web.responses import json_response


class ReportedEvents(msgspec.Struct, frozen=True):
    """The wrapped form; a bare array of events does as well."""

    events: list[dict[str, Any]]


async def ingest(rt: Runtime, request: Request) -> Response:
    body = await read_body(request)
    caller = context_of(request).actor
    if "idempotency-key" in request.headers:
        return await _ingest_once(rt, request, caller, body)
    batch = _read(rt, body, caller)
    inserted = await rt.get(Writer).submit(batch.reports) if batch.reports else 0
    return json_response(_counted(rt, batch, inserted))


async def _ingest_once(rt: Runtime, request: Request, caller: str, body: bytes) -> Response:
    """A keyed batch is its own transaction: the stored answer commits with its events."""

    async def effect(conn: Connection) -> Answer:
        batch = _read(rt, body, caller)
        new = await service.store_group(conn, batch.reports, rt.clock())
        return Answer(200, _counted(rt, batch, len(new)))

    return await answer_once(rt, request, endpoint="events.ingest", caller=caller, body=body, effect=effect)


def _read(rt: Runtime, body: bytes, caller: str) -> Batch:
    return normalise(body, caller, rt.clock(), uuid4, redact=rt.settings.event_token_redaction)


def _counted(rt: Runtime, batch: Batch, inserted: int) -> IngestAnswer:
    duplicates = len(batch.reports) - inserted
    rt.metrics.events_dropped.inc(batch.dropped)
    rt.metrics.events_duplicate.inc(duplicates)
    return IngestAnswer(len(batch.reports), inserted, duplicates, batch.dropped, batch.problems)


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/events",
        handler=ingest,
        summary="Report events; each is stored once however often it is sent",
        tag="events",
        body=ReportedEvents | list[dict[str, Any]],
        body_limit=EVENTS_BODY_LIMIT,
        idempotent=True,
        answers={200: IngestAnswer},
        errors=(BodyInvalid, PayloadTooLarge),
        # An event may be spelled in several ways; these lead on from the first one of the wrapped form in snake_case.
        leads_to=(
            *links("GET /api/sessions/{id}", id="$request.body#/events/0/session_id"),
            *links("GET /api/events/history", "GET /api/tcts", sessionId="$request.body#/events/0/session_id"),
            *links("GET /api/sessions", runId="$request.body#/events/0/run_id"),
        ),
    ),
)
