"""Signing in and out, by API key or single sign-on, and showing a credential again."""

from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.accounts.edge import ATTEMPT, CALLBACK, BrowserSessions
from aitp_cp.accounts.model import LoginRefused, NoRole, ProviderAway
from aitp_cp.console.forms import Form
from aitp_cp.console.page import action, render, screen, see_other
from aitp_cp.console.parts.link import ROOT, link, own
from aitp_cp.keys.cache import KeyCache
from aitp_cp.runtime import Runtime
from aitp_cp.web import responses
from aitp_cp.web.endpoint import Bucket, Gate

OUTSIDE = ("/console/log",)  # pages that lead here, or away
SHOWN_GROUPS = 20
# One sentence for every reason: whoever guesses learns nothing.
REFUSED = "This does not open the console. It takes a live API key that may read the dashboard."
DENIED = "The identity provider did not confirm who you are. Try again."
NO_ROLE = "You are known to the identity provider, but no group of yours has a role here."
AWAY = "The identity provider cannot be reached now. Try again, or use an API key."
NOT_KEPT = (
    "Your browser keeps no session over plain HTTP. Open the console by https, and set CP_BASE_URL or CONSOLE_ORIGIN "
    "to that address."
)


class LoginView(msgspec.Struct, frozen=True):
    """`to` is the page to go to, `again` whether the person is asked once more; `groups` are those of who has no role.

    `first_key` is whether there is no key at all yet.
    """

    to: str
    again: bool
    single_sign_on: bool
    first_key: bool
    open_gate: bool
    error: str | None = None
    groups: list[str] | None = None


async def show(rt: Runtime, request: Request) -> Response:
    return await _page(rt, request, _to(request.query_params.get("to", "")))


async def by_key(rt: Runtime, request: Request, form: Form) -> Response:
    browsers = rt.get(BrowserSessions)
    to = _to(form.get("to"))
    if not browsers.cookies.are_kept(request.headers):
        return await _page(rt, request, to, status=400, error=NOT_KEPT)
    try:
        cookie = await browsers.sign_in_by_key(request, form.get("key"))
    except LoginRefused:
        return await _page(rt, request, to, status=401, error=REFUSED)
    return _with_cookie(see_other(to), cookie)


async def leave(rt: Runtime, request: Request, form: Form) -> Response:
    return _with_cookie(see_other(link("/login")), await rt.get(BrowserSessions).leave(request))


async def to_provider(rt: Runtime, request: Request) -> Response:
    to, again = _to(request.query_params.get("to", "")), "again" in request.query_params
    browsers = rt.get(BrowserSessions)
    if not browsers.cookies.are_kept(request.headers):
        return await _page(rt, request, to, status=400, error=NOT_KEPT)
    try:
        address, cookie = await browsers.begin(request, to, again=again)
    except ProviderAway:
        return await _page(rt, request, to, status=503, error=AWAY)
    return _with_cookie(responses.see_other(address), cookie)


async def from_provider(rt: Runtime, request: Request) -> Response:
    browsers = rt.get(BrowserSessions)
    try:
        to, cookie = await browsers.finish(request)
    except NoRole as refused:
        groups = list(refused.groups[:SHOWN_GROUPS])
        response = await _page(rt, request, _to(""), status=403, error=NO_ROLE, groups=groups)
    except LoginRefused:
        response = await _page(rt, request, _to(""), status=401, error=DENIED)
    except ProviderAway:
        response = await _page(rt, request, _to(""), status=503, error=AWAY)
    else:
        response = _with_cookie(see_other(to), cookie)
    return _with_cookie(response, browsers.cookies.cleared(request.headers, ATTEMPT))


async def ended_by_provider(rt: Runtime, request: Request, form: Form) -> Response:
    """OpenID Connect Back-Channel Logout: the token says by its signature who sends it."""
    try:
        await rt.get(BrowserSessions).end_by_provider(request, form.get("logout_token"))
    except LoginRefused:
        return Response(status_code=400)
    except ProviderAway:
        return Response(status_code=503)
    return responses.no_content()


async def _page(
    rt: Runtime,
    request: Request,
    to: str,
    *,
    status: int = 200,
    error: str | None = None,
    groups: list[str] | None = None,
) -> Response:
    browsers = rt.get(BrowserSessions)
    no_key = not rt.get(KeyCache).exist and not rt.settings.api_keys
    again = "again" in request.query_params
    view = LoginView(
        to=to,
        again=again,
        single_sign_on=browsers.offers_single_sign_on,
        first_key=no_key and rt.settings.production,
        open_gate=no_key and not rt.settings.production,
        error=error,
        groups=groups,
    )
    title = "Confirm that it is you" if again else "Sign in"
    return await render(rt, request, "login.html", view, title=title, status=status)


def _to(address: str) -> str:
    """Return the page to go to: one of ours, and none that leads back here."""
    to = own(address)
    return own("") if to.startswith(OUTSIDE) else to


def _with_cookie(response: Response, cookie: str) -> Response:
    response.headers.append("set-cookie", cookie)
    return response


open_screen = partial(screen, scope=None, gate=Gate.OPEN)
open_action = partial(action, scope=None, gate=Gate.OPEN)

PAGES = (
    open_screen("/login", show),
    open_action("/login", by_key, bucket=Bucket.LOGIN_IP),
    open_action("/logout", leave),
    open_screen("/login/oidc", to_provider),
    open_screen(CALLBACK.removeprefix(ROOT), from_provider, bucket=Bucket.LOGIN_IP),
    open_action("/login/oidc/ended", ended_by_provider, cross_site=True),
)
