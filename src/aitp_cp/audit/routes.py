"""GET /api/audit."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit import export, store
from aitp_cp.audit.model import ORDER, Actor, AuditExport, AuditExportQuery, AuditFilter, AuditPage
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.web.context import context_of
from aitp_cp.web.csv import MEDIA_TYPE
from aitp_cp.web.endpoint import Endpoint
from aitp_cp.web.export import Format
from aitp_cp.web.query import read_query
from aitp_cp.web.responses import json_response


def actor_of(rt: Runtime, request: Request) -> Actor:
    """Return the caller as audit rows name it."""
    context = context_of(request)
    failed = rt.metrics.admin_audit_insert_failures.inc
    return Actor(context.actor, context.request_id, failed, context.actor_name, context.via)


async def list_entries(rt: Runtime, request: Request) -> Response:
    filter = read_query(request, AuditFilter)
    async with rt.db.connection() as conn:
        return json_response(await store.page(conn, filter, filter.window(ORDER)))


async def export_entries(rt: Runtime, request: Request) -> Response:
    query = read_query(request, AuditExportQuery)
    return await export.export(rt, query, actor_of(rt, request), rt.clock())


endpoint = partial(Endpoint, tag="audit")

ENDPOINTS = (
    endpoint(
        "GET /api/audit",
        list_entries,
        "The admin audit log, newest first",
        scope=Scope.AUDIT_READ,
        query=AuditFilter,
        responses={200: AuditPage},
    ),
    endpoint(
        "GET /api/audit/export",
        export_entries,
        "The admin audit as a file, newest first; each export is an entry of the audit",
        scope=Scope.AUDIT_READ,
        bulk=True,
        query=AuditExportQuery,
        responses={200: (AuditExport, Format.JSONL.media_type, MEDIA_TYPE)},
    ),
)
