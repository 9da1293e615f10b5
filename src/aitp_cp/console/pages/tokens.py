"""Tokens: who trusts whom right now, and what ends next."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.console.forms import Form
from aitp_cp.console.page import action, onward, read, render, screen, see_other
from aitp_cp.console.pages.revoking import RevocationPlan, plan_of, revoke
from aitp_cp.console.parts.link import link
from aitp_cp.console.parts.times import moment_of
from aitp_cp.db import Connection
from aitp_cp.protocol.scopes import Scope
from aitp_cp.registry.store import names_of
from aitp_cp.runtime import Runtime
from aitp_cp.tcts import queries
from aitp_cp.tcts.merging import RANKED
from aitp_cp.tcts.views import TctFilter, TctList, TctView
from aitp_cp.web.path import path_uuid
from aitp_cp.web.query import read_query

WINDOWS = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7)}
SOON = timedelta(hours=1)


class TokensFilter(TctFilter, frozen=True, kw_only=True, rename="camel"):
    """That of the list; `expires` is a window from now on, so that its address stays right."""

    expires: Annotated[Literal["1h", "24h", "7d"] | None, Meta(description="live tokens that end so soon")] = None


class TokenRow(msgspec.Struct, frozen=True):
    token: TctView
    status: str


class TokensView(msgspec.Struct, frozen=True):
    rows: list[TokenRow]
    names: Mapping[str, str]
    filter: TokensFilter
    next_url: str | None
    verdicts: Sequence[str] = tuple(map(str, RANKED))
    windows: Sequence[str] = tuple(WINDOWS)


class TokenView(msgspec.Struct, frozen=True):
    """`row` is None for an id that nobody reported: it can be revoked all the same."""

    row: TokenRow | None
    names: Mapping[str, str]
    plan: RevocationPlan


async def list_tokens(rt: Runtime, request: Request) -> Response:
    query = read_query(request, TokensFilter)
    if query.expires is not None:
        query = msgspec.structs.replace(query, expires_before=rt.clock() + WINDOWS[query.expires])
    window = query.window(query.order)

    async def listed(conn: Connection) -> tuple[TctList, Mapping[str, str]]:
        page = (await queries.list_tcts(conn, query, window, rt.clock())).read()
        return page, await names_of(conn, (aid for token in page.tcts for aid in (token.issuer, token.subject)))

    page, names = await read(rt, request, listed)
    rows = [_row(rt, token) for token in page.tcts]
    view = TokensView(rows, names, query, onward(request, page.next_before))
    return await render(rt, request, "tokens.html", view, title="Tokens")


async def show_or_revoke(rt: Runtime, request: Request, form: Form | None = None) -> Response:
    """Show a token; with a form, revoke it as that was planned."""
    view = await _view(rt, request, form)
    if form is not None and await revoke(rt, request, form, view.plan):
        return see_other(view.plan.page)
    return await render(rt, request, "token.html", view, title="Token", status=409 if view.plan.changed else 200)


async def _view(rt: Runtime, request: Request, form: Form | None) -> TokenView:
    jti = path_uuid(request, "jti")
    async with rt.db.connection() as conn:
        token = await queries.find_tct(conn, jti)
        tree = (await queries.tree(conn, jti, None)).read().delegations
        plan = await plan_of(conn, jti, tree, page=link("/tokens/{jti}", jti=jti), form=form)
        statements = [] if token is None else token.statements
        aids = {aid for each in statements for aid in (each.reported_by, each.issuer, each.subject)}
        names = await names_of(conn, aids | (set() if token is None else {token.issuer, token.subject}))
    return TokenView(None if token is None else _row(rt, token), names, plan)


def _row(rt: Runtime, token: TctView) -> TokenRow:
    ends = moment_of(token.expires_at)
    status = "live"
    if token.revoked:
        status = "revoked"
    elif ends is not None and ends <= rt.clock():
        status = "expired"
    elif ends is not None and ends <= rt.clock() + SOON:
        status = "expiring"
    return TokenRow(token, status)


PAGES = (
    screen("/tokens", list_tokens, scope=Scope.EVENTS_READ, nav="Tokens", query=TokensFilter),
    screen("/tokens/{jti}", show_or_revoke, scope=Scope.EVENTS_READ),
    action("/tokens/{jti}/revoke", show_or_revoke, scope=Scope.REVOCATION_WRITE, fresh_on="/tokens/{jti}"),
)
