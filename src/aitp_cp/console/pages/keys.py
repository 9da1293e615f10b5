"""API keys: who holds one, made, rotated and revoked by an administrator (contract, section 18)."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from uuid import uuid4

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.accounts.service import Accounts
from aitp_cp.audit.routes import actor_of
from aitp_cp.clock import iso
from aitp_cp.console.forms import Form
from aitp_cp.console.once import make_once
from aitp_cp.console.page import action, onward, render, screen, see_other
from aitp_cp.console.parts.link import link
from aitp_cp.db import Connection
from aitp_cp.errors import BadRequest
from aitp_cp.idempotency.model import ApiResponse
from aitp_cp.keys import service
from aitp_cp.keys.cache import KeyCache
from aitp_cp.keys.model import ORDER, CreatedKey, KeyFilter, KeyQuery, KeyView, NewKey, shown_once
from aitp_cp.keys.routes import grantor_of
from aitp_cp.protocol.scopes import ROLES, Role, Scope
from aitp_cp.runtime import Runtime
from aitp_cp.web.body import convert
from aitp_cp.web.context import context_of
from aitp_cp.web.path import path_uuid
from aitp_cp.web.query import read_query

LIFETIMES = {"30": "30 days", "90": "90 days", "365": "a year", "": "no end"}
OVERLAPS = {"0": "none", "3600": "an hour", "86400": "a day", "604800": "a week"}


class KeysView(msgspec.Struct, frozen=True):
    """`once` makes a form good for one key; `environment` are the actors of `API_KEYS`."""

    rows: list[KeyView]
    environment: list[str]
    state: str
    roles: list[str]
    lifetimes: dict[str, str]
    overlaps: dict[str, str]
    once: str
    next_url: str | None
    states: Sequence[str] = tuple(KeyFilter)


class MadeView(msgspec.Struct, frozen=True):
    """`key` is shown this once, None when the form was sent again."""

    key: str | None


async def list_keys(rt: Runtime, request: Request) -> Response:
    query, scopes = read_query(request, KeyQuery), context_of(request).scopes
    async with rt.db.connection() as conn:
        page = await service.list_keys(conn, query.state, query.window(ORDER), rt.clock())
    view = KeysView(
        rows=page.keys,
        environment=sorted(rt.get(Accounts).environment.actors),
        state=query.state,
        roles=[role for role in Role if ROLES[role] <= scopes],
        lifetimes=LIFETIMES,
        overlaps=OVERLAPS,
        once=str(uuid4()),
        next_url=onward(request, page.next_before),
    )
    return await render(rt, request, "keys.html", view, title="API keys")


async def create(rt: Runtime, request: Request, form: Form) -> Response:
    grantor = grantor_of(rt, request)
    role, days, rate = form.get("role"), form.get("days"), form.get("rate") or "0"
    if role not in list(map(str, Role)) or days not in LIFETIMES or not (rate.isdecimal() and len(rate) < 10):
        raise BadRequest("a key needs a role, an end from the list, and a rate in digits or none")
    ends = iso(rt.clock() + timedelta(days=int(days))) if days else None
    new = convert({"name": form.get("name"), "role": role, "expiresAt": ends, "ratePerMin": int(rate) or None}, NewKey)
    return await _shown_once(rt, request, form, lambda conn: service.create(conn, new, grantor, rt.clock()))


async def rotate(rt: Runtime, request: Request, form: Form) -> Response:
    id, grantor = path_uuid(request), grantor_of(rt, request)
    overlap = form.get("overlap")
    if overlap not in OVERLAPS:
        raise BadRequest(f"overlap is a number of seconds: {', '.join(OVERLAPS)}")
    secs = int(overlap)
    return await _shown_once(rt, request, form, lambda conn: service.rotate(conn, id, secs, grantor, rt.clock()))


async def revoke(rt: Runtime, request: Request, form: Form) -> Response:
    id = path_uuid(request)
    reason = form.get("reason") or None
    async with rt.db.transaction() as conn:
        family = form.get("family") == "on"
        revoked = await service.revoke(conn, id, reason, actor_of(rt, request), rt.clock(), family=family)
    rt.get(KeyCache).revoked(revoked.keys)
    return see_other(link("/keys"))


async def _shown_once(
    rt: Runtime, request: Request, form: Form, make: Callable[[Connection], Awaitable[CreatedKey]]
) -> Response:
    """Make a key and show it. The same form sent again, as a reload does, makes none and shows none."""

    async def effect(conn: Connection) -> ApiResponse:
        return shown_once(await make(conn))

    made = await make_once(rt, request, form, "keys", effect)
    if isinstance(made, CreatedKey):
        await rt.get(KeyCache).changed(made.id)
    view = MadeView(made.key if isinstance(made, CreatedKey) else None)
    return await render(rt, request, "key_made.html", view, title="A new key", secret=True)


PAGES = (
    screen("/keys", list_keys, scope=Scope.KEYS_ADMIN, nav="Keys", query=KeyQuery),
    action("/keys", create, scope=Scope.KEYS_ADMIN, fresh_on="/keys"),
    action("/keys/{id}/rotate", rotate, scope=Scope.KEYS_ADMIN, fresh_on="/keys"),
    action("/keys/{id}/revoke", revoke, scope=Scope.KEYS_ADMIN, fresh_on="/keys"),
)
