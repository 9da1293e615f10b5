"""GET /api/audit."""

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit import store
from aitp_cp.audit.model import ORDER, Actor, AuditPage
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.web.context import context_of
from aitp_cp.web.endpoint import Endpoint
from aitp_cp.web.query import PageQuery, read_query
from aitp_cp.web.responses import json_response


def actor_of(rt: Runtime, request: Request) -> Actor:
    """Return the caller as audit rows name it."""
    context = context_of(request)
    failed = rt.metrics.admin_audit_insert_failures.inc
    return Actor(context.actor, context.request_id, failed, context.actor_name, context.via)


async def list_entries(rt: Runtime, request: Request) -> Response:
    window = read_query(request, PageQuery).window(ORDER)
    async with rt.db.connection() as conn:
        return json_response(await store.page(conn, window))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/audit",
        scope=Scope.AUDIT_READ,
        handler=list_entries,
        summary="The admin audit log, newest first",
        tag="audit",
        bulk=True,
        query=PageQuery,
        answers={200: AuditPage},
    ),
)
