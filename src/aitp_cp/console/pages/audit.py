"""The admin audit: who did what, and what else happened in the same request."""

import shlex
from typing import Annotated, get_args
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit import store
from aitp_cp.audit.export import export
from aitp_cp.audit.model import ORDER, AuditEntry, AuditExportQuery, AuditFilter
from aitp_cp.audit.routes import actor_of
from aitp_cp.audit.service import Action
from aitp_cp.console.page import render, screen
from aitp_cp.console.parts.link import link
from aitp_cp.console.shell import address_of
from aitp_cp.db.keyset import Window
from aitp_cp.errors import NotFound
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.web.path import path_uuid
from aitp_cp.web.query import read_query

PAGE_ROWS = 100
RELATED_ROWS = 200
MAX_DETAILS = 64 * 1024  # characters of an entry's details on its page


class AuditPageFilter(AuditFilter, frozen=True, kw_only=True, rename="camel"):
    """That of the list, in pages that a person reads."""

    limit: Annotated[int, Meta(ge=1, le=500, description="rows")] = PAGE_ROWS


class AuditRow(msgspec.Struct, frozen=True):
    """`details` is JSON on one line; `aid` is the target where that is an agent."""

    id: UUID
    action: str
    actor_id: str | None
    actor_name: str | None
    target_id: str | None
    aid: str | None
    details: str
    request_id: str | None
    created_at: str


class AuditView(msgspec.Struct, frozen=True):
    """`address` is that of this page, to be sent to others; only the newest page changes by itself."""

    rows: list[AuditRow]
    filter: AuditPageFilter
    actions: list[str]
    since: str
    until: str
    next_url: str | None
    address: str
    command: str
    newest: bool


class AuditEntryView(msgspec.Struct, frozen=True):
    """`related` are the other entries of the same request."""

    row: AuditRow
    details: str
    related: list[AuditRow]
    address: str


async def list_entries(rt: Runtime, request: Request) -> Response:
    query = read_query(request, AuditPageFilter)
    async with rt.db.connection() as conn:
        page = await store.page(conn, query, query.window(ORDER))
    asked = {
        "actor": query.actor,
        "action": query.action,
        "target": query.target,
        "requestId": query.request_id,
        "since": query.since,
        "until": query.until,
    }
    view = AuditView(
        rows=[_row(entry) for entry in page.entries],
        filter=query,
        actions=sorted(get_args(Action)),
        since=request.query_params.get("since", ""),
        until=request.query_params.get("until", ""),
        next_url=None if page.next_before is UNSET else link("/audit", **asked, before=page.next_before),
        address=_address(rt, request),
        command=_command(request, query),
        newest=query.before is None and query.until is None,
    )
    return await render(rt, request, "audit.html", view, title="Audit", live="audit")


async def get_entry(rt: Runtime, request: Request) -> Response:
    async with rt.db.connection() as conn:
        entry = await store.find(conn, path_uuid(request))
        if entry is None:
            raise NotFound("no such entry: it never was, or retention has swept it")
        same = AuditFilter(request_id=entry.request_id)
        related = await store.page(conn, same, Window(RELATED_ROWS)) if entry.request_id else None
    view = AuditEntryView(
        row=_row(entry),
        details=msgspec.json.format(bytes(entry.details), indent=2).decode(errors="replace")[:MAX_DETAILS],
        related=[_row(other) for other in related.entries if other.id != entry.id] if related else [],
        address=_address(rt, request),
    )
    return await render(rt, request, "audit_entry.html", view, title=entry.action)


async def export_entries(rt: Runtime, request: Request) -> Response:
    query = read_query(request, AuditExportQuery)
    return await export(rt, query, actor_of(rt, request), rt.clock())


def _command(request: Request, query: AuditPageFilter) -> str:
    """Return the command that lists the same."""
    options = {
        "actor": query.actor,
        "action": query.action,
        "target": query.target,
        "request": query.request_id,
        "since": request.query_params.get("since"),
        "until": request.query_params.get("until"),
    }
    given = [f"--{name}={value}" for name, value in options.items() if value]
    return shlex.join(["aitp-cp", "audit", "list", *given])


def _row(entry: AuditEntry) -> AuditRow:
    target = entry.target_id
    return AuditRow(
        id=entry.id,
        action=entry.action,
        actor_id=entry.actor_id,
        actor_name=entry.actor_name,
        target_id=target,
        aid=target if target and target.startswith("aid:") else None,
        details=bytes(entry.details).decode(errors="replace"),
        request_id=entry.request_id,
        created_at=entry.created_at,
    )


def _address(rt: Runtime, request: Request) -> str:
    return (rt.settings.console_origin or rt.settings.cp_base_url.rstrip("/")) + address_of(request)


PAGES = (
    screen(path="/audit", handler=list_entries, scope=Scope.AUDIT_READ, nav="Audit", bulk=True, query=AuditPageFilter),
    screen(path="/audit/export", handler=export_entries, scope=Scope.AUDIT_READ, bulk=True, query=AuditExportQuery),
    screen(path="/audit/{id}", handler=get_entry, scope=Scope.AUDIT_READ),
)
