"""Tokens: who trusts whom right now, and what ends next."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.accounts.service import is_fresh
from aitp_cp.console import forms
from aitp_cp.console.page import action, read, render, screen, see_other
from aitp_cp.console.pages.names import names_of
from aitp_cp.console.pages.revoking import RevocationPlan, plan_of, revoke
from aitp_cp.console.parts.link import link
from aitp_cp.console.parts.times import moment_of
from aitp_cp.db import Connection
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.tcts import queries
from aitp_cp.tcts.merging import RANKED
from aitp_cp.tcts.views import TctFilter, TctList, TctView
from aitp_cp.web.path import path_uuid
from aitp_cp.web.query import read_query

PAGE_ROWS = 100
WINDOWS = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7)}
SOON = timedelta(hours=1)


class TokensFilter(TctFilter, frozen=True, kw_only=True, rename="camel"):
    """That of the list; `expires` is a window from now on, so that its address stays right."""

    limit: Annotated[int, Meta(ge=1, le=500, description="rows")] = PAGE_ROWS
    expires: Annotated[Literal["1h", "24h", "7d"] | None, Meta(description="live tokens that end so soon")] = None


class Party(msgspec.Struct, frozen=True):
    aid: str
    name: str | None


class TokenRow(msgspec.Struct, frozen=True):
    token: TctView
    issuer: Party
    subject: Party
    grants: list[str]
    status: str


class TokensView(msgspec.Struct, frozen=True):
    rows: list[TokenRow]
    filter: TokensFilter
    verdicts: list[str]
    windows: list[str]
    next_url: str | None


class StatementRow(msgspec.Struct, frozen=True):
    """What one reporter says of the id; `by` is None for a shared key."""

    by: Party | None
    issuer: Party
    subject: Party
    verdict: str
    expires_at: str | None
    revoked_at: str | None


class TokenView(msgspec.Struct, frozen=True):
    """`row` is None for an id that nobody reported: it can be revoked all the same. `changed`: the plan is another."""

    row: TokenRow | None
    statements: list[StatementRow]
    plan: RevocationPlan
    fresh: bool
    changed: bool
    reason: str
    kind: str


async def list_tokens(rt: Runtime, request: Request) -> Response:
    query = read_query(request, TokensFilter)
    if query.expires is not None:
        query = msgspec.structs.replace(query, expires_before=rt.clock() + WINDOWS[query.expires])
    window = query.window(query.order)

    async def listed(conn: Connection) -> tuple[TctList, Mapping[str, str]]:
        page = (await queries.list_tcts(conn, query, window, rt.clock())).read()
        return page, await names_of(conn, (aid for token in page.tcts for aid in (token.issuer, token.subject)))

    page, names = await read(rt, request, listed)
    asked = {name: getattr(query, name) for name in ("issuer", "subject", "capability", "verdict", "expires", "active")}
    older = None if page.next_before is UNSET else link("/tokens", **asked, before=page.next_before)
    rows = [_row(rt, token, names) for token in page.tcts]
    view = TokensView(rows, query, [str(verdict) for verdict in RANKED], list(WINDOWS), older)
    return await render(rt, request, "tokens.html", view, title="Tokens", live="tokens revocations")


async def get_token(rt: Runtime, request: Request) -> Response:
    return await _page(rt, request, await _view(rt, request, path_uuid(request, "jti")))


async def revoke_token(rt: Runtime, request: Request) -> Response:
    form, jti = await forms.read(request), path_uuid(request, "jti")
    view = await _view(rt, request, jti)
    here = link("/tokens/{jti}", jti=jti)
    if await revoke(rt, request, form, view.plan, here):
        return see_other(here)
    return await _page(rt, request, msgspec.structs.replace(view, changed=True, reason=form.get("reason")), 409)


async def _page(rt: Runtime, request: Request, view: TokenView, status: int = 200) -> Response:
    return await render(rt, request, "token.html", view, title="Token", live="tokens revocations", status=status)


async def _view(rt: Runtime, request: Request, jti: UUID) -> TokenView:
    async with rt.db.connection() as conn:
        token = await queries.find_tct(conn, jti)
        tree = (await queries.tree(conn, jti, None)).read().delegations
        plan = await plan_of(conn, jti, tree)
        said = [] if token is None else token.statements
        aids = {aid for each in said for aid in (each.reported_by, each.issuer, each.subject)}
        names = await names_of(conn, aids | (set() if token is None else {token.issuer, token.subject}))
    return TokenView(
        row=None if token is None else _row(rt, token, names),
        statements=[
            StatementRow(
                None if each.reported_by is None else party(each.reported_by, names),
                party(each.issuer, names),
                party(each.subject, names),
                each.verdict,
                each.expires_at,
                each.revoked_at,
            )
            for each in said
        ],
        plan=plan,
        fresh=is_fresh(rt, request),
        changed=False,
        reason="",
        kind="tokens",
    )


def party(aid: str, names: Mapping[str, str]) -> Party:
    return Party(aid, names.get(aid))


def texts(raw: msgspec.Raw) -> list[str]:
    found = msgspec.json.decode(raw)
    return [str(each) for each in found] if isinstance(found, list) else []


def _row(rt: Runtime, token: TctView, names: Mapping[str, str]) -> TokenRow:
    ends = moment_of(token.expires_at)
    status = "live"
    if token.revoked:
        status = "revoked"
    elif ends is not None and ends <= rt.clock():
        status = "expired"
    elif ends is not None and ends <= rt.clock() + SOON:
        status = "expiring"
    return TokenRow(token, party(token.issuer, names), party(token.subject, names), texts(token.grants), status)


PAGES = (
    screen(path="/tokens", handler=list_tokens, scope=Scope.EVENTS_READ, nav="Tokens", bulk=True, query=TokensFilter),
    screen(path="/tokens/{jti}", handler=get_token, scope=Scope.EVENTS_READ),
    action(path="/tokens/{jti}/revoke", handler=revoke_token, scope=Scope.REVOCATION_WRITE),
)
