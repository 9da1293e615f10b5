"""Screens and actions: how a page of the console is declared and answered."""

import asyncio
import gzip
import hashlib
import time as timing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Generic, TypedDict, TypeVar, Unpack
from urllib.parse import urlencode

import msgspec
import structlog
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.accounts.service import require_fresh
from aitp_cp.console import forms
from aitp_cp.console.forms import Form
from aitp_cp.console.parts.link import ROOT, own
from aitp_cp.console.shell import POLICY, POSITION, REFUSED, Console, Refused, first_values, page_of
from aitp_cp.console.static_files import accepts_gzip
from aitp_cp.console.typed import put_back
from aitp_cp.db import Connection
from aitp_cp.errors import AppError, IdempotencyInFlight, IdempotencyKeyReused, Internal
from aitp_cp.events.tail import Tail
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.web import responses
from aitp_cp.web.context import context_of
from aitp_cp.web.endpoint import Endpoint, Gate, Handler
from aitp_cp.web.gate import FRAGMENT, REFRESH
from aitp_cp.web.path import sent_path

HTML = "text/html; charset=utf-8"
MIN_PACKED_BYTES = 1024
VARY = "Accept-Encoding, X-Fragment, Cookie"
REFRESH_SECS = frozenset(map(str, range(2, 601)))  # after which a browser without script may ask again

# Refusals of a form after which another try makes sense, and what a person reads instead of what a program does.
SHOWN = frozenset({400, 403, 404, 409, 422})
SENTENCES = {IdempotencyKeyReused.code: "this form was sent before, with other values"}

# Members of every endpoint of the console: nothing describes to a program what its pages answer.
OF_PAGES: Mapping[str, Any] = {"tag": "console", "gate": Gate.SESSION, "responses": {}, "documented": False}

log = structlog.get_logger("aitp_cp.console")

T = TypeVar("T")
Action = Callable[[Runtime, Request, Form], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen(Endpoint):
    """A page; `nav` is its word in the rail."""

    nav: str | None = None


def screen(path: str, handler: Handler, *, scope: Scope | None, nav: str | None = None, **more: Any) -> Screen:
    """Declare a page below `/console`; without a `scope` every session sees it. `more` are members of `Endpoint`."""
    members = {**OF_PAGES, "scope": scope, "nav": nav, **more}
    return Screen(f"GET {ROOT}{path}", _from_position(handler), path, **members)


def _from_position(handler: Handler) -> Handler:
    """Note the position of the log before the page reads anything: the script compares it with what it hears first."""

    @wraps(handler)
    async def noted(rt: Runtime, request: Request) -> Response:
        request.scope[POSITION] = 0 if rt.db.standby else rt.get(Tail).last  # a standby may be behind
        return await handler(rt, request)

    return noted


def action(path: str, handler: Action, *, scope: Scope | None, fresh_on: str | None = None, **more: Any) -> Endpoint:
    """Declare what a form does; it answers with `see_other`, or with a page that shows a secret once.

    `fresh_on` is the page above the action, from which a person proves again who he is before it is done.
    """

    @wraps(handler)
    async def with_form(rt: Runtime, request: Request) -> Response:
        if fresh_on is not None:
            require_fresh(rt, request, _address_above(request, ROOT + fresh_on))
        return await handler(rt, request, await forms.read(request))

    return Endpoint(f"POST {ROOT}{path}", with_form, path, **{**OF_PAGES, "scope": scope, "body": Form, **more})


def with_refusals(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """Let the page that has a form say why the form was refused: the nearest one above the action."""
    screens = {each.path: each for each in endpoints if isinstance(each, Screen)}
    return tuple(
        _refused_on(page, each)
        if each.method == "POST" and each.gate is Gate.SESSION and (page := _nearest(screens, each.path))
        else each
        for each in endpoints
    )


def _nearest(screens: Mapping[str, Screen], path: str) -> Screen | None:
    while path and path not in screens:
        path = path.rpartition("/")[0]
    return screens.get(path)


def _address_above(request: Request, page: str) -> str:
    """Return the address of a page whose path the request's path begins with."""
    return "/".join(sent_path(request.scope).split("/")[: page.count("/") + 1])


def _refused_on(page: Screen, act: Endpoint) -> Endpoint:
    @wraps(act.handler)
    async def handler(rt: Runtime, request: Request) -> Response:
        try:
            return await act.handler(rt, request)
        except AppError as refused:
            context = context_of(request)
            if isinstance(refused, IdempotencyInFlight):
                raise  # the page would offer a fresh form while this one is still being worked on
            if refused.status not in SHOWN or not (page.scope is None or page.scope in context.scopes):
                raise
            context.error = refused
            sentence = SENTENCES.get(refused.code, refused.message)
            request.scope[REFUSED] = Refused(sentence, refused.code, _address_above(request, page.path))
            response = await page.handler(rt, request)
            response.status_code = refused.status
            return response

    return replace(act, handler=handler)


class How(TypedDict, total=False):
    """How a page is answered, if not plainly: one that shows a secret is not compressed."""

    status: int
    secret: bool


async def render(
    rt: Runtime, request: Request, template: str, view: Any, *, title: str, **how: Unpack[How]
) -> Response:
    """Return a page, or the one live region of it that the script asks for by `X-Fragment`.

    `view` is what the template may read. Raises `NotFound` for a region that the template does not have.
    """
    console = rt.get(Console)
    frame = console.frame(request, title)
    region = request.headers.get(FRAGMENT)
    started = timing.perf_counter()
    # In a thread: a thousand rows take tens of milliseconds.
    if region is None:
        text, secret = await asyncio.to_thread(console.page, template, view, frame), how.get("secret", False)
        if (form := forms.sent(request)) is not None and not secret:
            text = await asyncio.to_thread(put_back, text, form, sent_path(request.scope))
        response = _page(request, text, how.get("status", 200), secret=secret)
        response.headers["content-security-policy"] = POLICY.format(nonce=frame.nonce)
        if (secs := request.query_params.get(REFRESH)) in REFRESH_SECS:
            response.headers["refresh"] = secs
    else:
        text = await asyncio.to_thread(console.region, template, region, view, frame)
        response = _fragment(request, text)
    rt.metrics.console_page.labels(page=context_of(request).route).observe(timing.perf_counter() - started)
    return response


def here(request: Request, **changes: Any) -> str:
    """Return the address of this page with other parameters; one that is None is left out."""
    pairs = [(name, value) for name, value in {**first_values(request), **changes}.items() if value not in (None, "")]
    return own("?".join(filter(None, (page_of(request).partition("?")[0], urlencode(pairs, errors="replace")))))


def onward(request: Request, cursor: str | UnsetType, name: str = "before", **changes: Any) -> str | None:
    """Return the address of the next page of a list; None at its end."""
    return None if cursor is UNSET else here(request, **{"offset": None, name: cursor, **changes})


def see_other(address: str) -> Response:
    """Return the response to a form that was carried out: look at this page of the console now."""
    return responses.see_other(own(address))


class Region(msgspec.Struct, Generic[T], frozen=True):
    """A part of a page that stands or fails by itself: its value, or why there is none."""

    value: T | None
    error: str | None = None


async def region(work: Awaitable[T]) -> Region[T]:
    """Wait for what a part of a page shows; a failure becomes a sentence, and the other parts stand."""
    try:
        return Region(await work)
    except AppError as refused:
        return Region(None, f"{refused.message} ({refused.code})")
    except Exception:
        log.exception("console_region_failed")
        return Region(None, f"{Internal.sentence} ({Internal.code})")


async def read(rt: Runtime, request: Request, query: Callable[[Connection], Awaitable[T]]) -> T:
    """Return what a page shows, from the standby if there is one; a region that was rung for, from the primary."""
    if not is_fragment(request):
        return await rt.db.read(query)
    async with rt.db.connection() as conn:
        return await query(conn)


def is_fragment(request: Request) -> bool:
    """Return whether the script asks for one region alone."""
    return FRAGMENT in request.headers


def wants(request: Request, region: str) -> bool:
    """Return whether the response holds this region: the whole page does, a fragment only its own."""
    return request.headers.get(FRAGMENT, region) == region


def _page(request: Request, text: str, status: int, *, secret: bool) -> Response:
    body = text.encode(errors="replace")
    if secret or len(body) < MIN_PACKED_BYTES or not accepts_gzip(request):
        return Response(body, status, {"vary": VARY}, media_type=HTML)
    packed = gzip.compress(body, 5, mtime=0)
    return Response(packed, status, {"vary": VARY, "content-encoding": "gzip"}, media_type=HTML)


def _fragment(request: Request, text: str) -> Response:
    tag = f'W/"{hashlib.sha256(text.encode(errors="replace")).hexdigest()[:24]}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"etag": tag, "vary": VARY})
    response = _page(request, text, 200, secret=False)
    response.headers["etag"] = tag
    return response
