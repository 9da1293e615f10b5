"""One's own sessions, and for administrators those of everybody."""

from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.accounts import service
from aitp_cp.accounts.edge import BrowserSessions
from aitp_cp.accounts.model import MAX_SUBJECT, ORDER, ConsoleSession, Which
from aitp_cp.accounts.service import Accounts
from aitp_cp.audit import service as audit
from aitp_cp.audit.routes import actor_of
from aitp_cp.console.forms import Form
from aitp_cp.console.page import action, onward, render, screen, see_other
from aitp_cp.console.parts.link import link
from aitp_cp.db.keyset import Window
from aitp_cp.errors import BadRequest
from aitp_cp.protocol.scopes import Scope, in_order
from aitp_cp.protocol.uuids import read_uuid
from aitp_cp.runtime import Runtime
from aitp_cp.web.context import context_of
from aitp_cp.web.path import path_uuid
from aitp_cp.web.query import PageQuery, read_query

PAGE_ROWS = 100


class SignedInQuery(PageQuery, frozen=True, kw_only=True, rename="camel"):
    """Everybody's sessions, or those of one person."""

    subject: Annotated[str | None, Meta(description="whose sessions")] = None


class MeView(msgspec.Struct, frozen=True):
    actor: str
    name: str | None
    scopes: list[str]
    rows: list[ConsoleSession]


class SignedInView(msgspec.Struct, frozen=True):
    rows: list[ConsoleSession]
    subject: str
    next_url: str | None


async def me(rt: Runtime, request: Request) -> Response:
    principal = context_of(request).principal
    assert principal is not None
    rows: list[ConsoleSession] = []
    if principal.session is not None:
        async with rt.db.connection() as conn:
            rows, _ = await rt.get(Accounts).list_live(conn, Window(PAGE_ROWS), rt.clock(), principal.actor)
    view = MeView(principal.actor, principal.name, list(map(str, in_order(principal.scopes))), rows)
    return await render(rt, request, "me.html", view, title="My sessions")


async def end_mine(rt: Runtime, request: Request, form: Form) -> Response:
    """End one session of the same person, or all others."""
    principal, chosen = context_of(request).principal, form.get("which")
    if principal is None or principal.session is None:
        return see_other(link("/me"))
    which = Which(subject=principal.actor, besides=principal.session)
    if chosen != "others":
        id = read_uuid(chosen)
        if id is None:
            raise BadRequest("which names one of your sessions, or all others")
        which = Which(id=id, subject=principal.actor)
    await _end(rt, request, which)
    return see_other(link("/me"))


async def signed_in(rt: Runtime, request: Request) -> Response:
    """List everybody's sessions. That an administrator looked is an audit row, if it is a person who looks."""
    query = read_query(request, SignedInQuery)
    subject = query.subject or ""
    async with rt.db.transaction() as conn:
        rows, page = await rt.get(Accounts).list_live(conn, query.window(ORDER), rt.clock(), subject or None)
        details = {"rows": len(rows)}
        await audit.record(conn, "console.sessions.view", actor_of(rt, request), subject or "*", details, rt.clock())
    view = SignedInView(rows, subject, onward(request, page.next_before))
    return await render(rt, request, "signed_in.html", view, title="Who is signed in")


async def end_one(rt: Runtime, request: Request, form: Form) -> Response:
    await _end(rt, request, Which(id=path_uuid(request)))
    return see_other(link("/signed-in"))


async def end_all(rt: Runtime, request: Request, form: Form) -> Response:
    """End every session of a person, at once on every replica."""
    subject = form.get("subject")
    if not 0 < len(subject) <= MAX_SUBJECT:
        raise BadRequest("subject names whose sessions to end")
    await _end(rt, request, Which(subject=subject))
    return see_other(link("/signed-in"))


async def _end(rt: Runtime, request: Request, which: Which) -> None:
    async with rt.db.transaction() as conn:
        ended = await service.end(conn, actor_of(rt, request), rt.clock(), which)
    for session in ended:
        rt.get(BrowserSessions).ended(session.id)


PAGES = (
    screen("/me", me, scope=None),
    action("/me/end", end_mine, scope=None),
    screen("/signed-in", signed_in, scope=Scope.KEYS_ADMIN, nav="Signed in", query=SignedInQuery),
    action("/signed-in/{id}/end", end_one, scope=Scope.KEYS_ADMIN),
    action("/signed-in/end-all", end_all, scope=Scope.KEYS_ADMIN),
)
