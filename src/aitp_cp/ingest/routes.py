"""POST /api/events."""

from typing import Any
from uuid import uuid4

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.errors import AppError, IngestBusy, SignatureRequired
from aitp_cp.idempotency.edge import refuse_once, respond
from aitp_cp.idempotency.model import ApiResponse
from aitp_cp.idempotency.service import check_key, once_for
from aitp_cp.ingest.model import IngestAnswer, Stored, Submission
from aitp_cp.ingest.verifier import Verifier
from aitp_cp.ingest.writer import Writer
from aitp_cp.protocol.reports import Batch, Reporter, normalise
from aitp_cp.protocol.scopes import Scope
from aitp_cp.registry.cache import RegistryCache
from aitp_cp.runtime import Runtime
from aitp_cp.web.body import read_body
from aitp_cp.web.context import context_of
from aitp_cp.web.endpoint import EVENTS_BODY_LIMIT, Endpoint, links

ENDPOINT = "events.ingest"


class ReportedEvents(msgspec.Struct, frozen=True):
    """The wrapped form; a bare array of events does as well."""

    events: list[dict[str, Any]]


async def ingest(rt: Runtime, request: Request) -> Response:
    reporter = _reporter(rt, request)
    key = check_key(request.headers.get("idempotency-key"))
    writer = rt.get(Writer)
    with writer.backlog.body() as count:
        body = await read_body(request, count)
        caller = reporter.actor
        try:
            batch = normalise(body, reporter, rt.clock(), uuid4, redact=rt.settings.event_token_redaction)
        except AppError as refused:
            return await refuse_once(rt, request, endpoint=ENDPOINT, caller=caller, body=body, refused=refused)
        batch = await rt.get(Verifier).judge(batch, caller)
        if batch.reports or key is not None:
            stored = await writer.submit(Submission(batch, once_for(ENDPOINT, caller, key, body)))
            rt.get(RegistryCache).seen(stored.seen)
        else:
            stored = _nothing(batch)
        _count(rt, stored)
        return respond(request, stored.response)


def _reporter(rt: Runtime, request: Request) -> Reporter:
    """Return who reports; raises `SignatureRequired` for a shared key where only agents may."""
    context, telemetry = context_of(request), rt.settings.telemetry
    principal = context.principal
    if principal is not None and principal.aid is not None:
        return Reporter(context.actor, principal.proof, principal.aid)
    if telemetry == "require":
        raise SignatureRequired
    return Reporter(context.actor, should_sign=telemetry == "warn")


def _nothing(batch: Batch) -> Stored:
    counts = IngestAnswer(0, 0, 0, batch.dropped, batch.problems)
    return Stored(ApiResponse(200, counts), counts)


def _count(rt: Runtime, stored: Stored) -> None:
    if stored.counts is not None:
        rt.metrics.events_dropped.inc(stored.counts.dropped)
        rt.metrics.events_duplicate.inc(stored.counts.duplicates)


ENDPOINTS = (
    Endpoint(
        "POST /api/events",
        ingest,
        "Report events; each is stored once however often it is sent",
        tag="events",
        scope=Scope.EVENTS_WRITE,
        body=ReportedEvents | list[dict[str, Any]],
        body_limit=EVENTS_BODY_LIMIT,
        signable=True,
        idempotent=True,
        responses={200: IngestAnswer},
        errors=(IngestBusy, SignatureRequired),
        # An event may be spelled in several ways; these lead on from the first one of the wrapped form in snake_case.
        leads_to=(
            *links("GET /api/sessions/{id}", id="$request.body#/events/0/session_id"),
            *links("GET /api/events/history", "GET /api/tcts", sessionId="$request.body#/events/0/session_id"),
            *links("GET /api/sessions", runId="$request.body#/events/0/run_id"),
        ),
    ),
)
