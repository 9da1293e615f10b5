"""The admin audit: who did what, and what else happened in the same request."""

from collections.abc import Sequence
from typing import get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit import store
from aitp_cp.audit.export import export
from aitp_cp.audit.model import ORDER, AuditEntry, AuditExportQuery, AuditFilter
from aitp_cp.audit.routes import actor_of
from aitp_cp.audit.service import Action
from aitp_cp.console.page import onward, render, screen
from aitp_cp.db.keyset import Window
from aitp_cp.errors import NotFound
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.web.path import path_uuid, sent_address
from aitp_cp.web.query import read_query

RELATED_ROWS = 200


class AuditView(msgspec.Struct, frozen=True):
    """`address` is that of this page, to be sent to others; only the newest page changes by itself."""

    rows: list[AuditEntry]
    filter: AuditFilter
    next_url: str | None
    address: str
    newest: bool
    actions: Sequence[str] = tuple(sorted(get_args(Action)))


class AuditEntryView(msgspec.Struct, frozen=True):
    """`related` are the other entries of the same request."""

    row: AuditEntry
    related: list[AuditEntry]
    address: str


async def list_entries(rt: Runtime, request: Request) -> Response:
    query = read_query(request, AuditFilter)
    async with rt.db.connection() as conn:
        page = await store.page(conn, query, query.window(ORDER))
    view = AuditView(
        rows=page.entries,
        filter=query,
        next_url=onward(request, page.next_before),
        address=_address(rt, request),
        newest=query.before is None and query.until is None,
    )
    return await render(rt, request, "audit.html", view, title="Audit")


async def get_entry(rt: Runtime, request: Request) -> Response:
    async with rt.db.connection() as conn:
        entry = await store.find(conn, path_uuid(request))
        if entry is None:
            raise NotFound("no such entry: it never was, or retention has swept it")
        same = AuditFilter(request_id=entry.request_id)
        related = await store.page(conn, same, Window(RELATED_ROWS)) if entry.request_id else None
    others = [other for other in related.entries if other.id != entry.id] if related else []
    view = AuditEntryView(entry, others, _address(rt, request))
    return await render(rt, request, "audit_entry.html", view, title=entry.action)


async def export_entries(rt: Runtime, request: Request) -> Response:
    query = read_query(request, AuditExportQuery)
    return await export(rt, query, actor_of(rt, request), rt.clock())


def _address(rt: Runtime, request: Request) -> str:
    return (rt.settings.console_origin or rt.settings.cp_base_url.rstrip("/")) + sent_address(request.scope)


PAGES = (
    screen("/audit", list_entries, scope=Scope.AUDIT_READ, nav="Audit", query=AuditFilter),
    screen("/audit/export", export_entries, scope=Scope.AUDIT_READ, bulk=True, query=AuditExportQuery),
    screen("/audit/{id}", get_entry, scope=Scope.AUDIT_READ),
)
