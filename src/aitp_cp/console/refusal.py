"""How the edge answers people: errors of the console as pages, headers that browsers obey, and the way in from `/`."""

from collections.abc import Iterable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

from aitp_cp.console.parts.link import ROOT
from aitp_cp.console.shell import POLICY, Console
from aitp_cp.errors import AppError, IdempotencyInFlight, NotFound
from aitp_cp.runtime import Runtime
from aitp_cp.web.context import context_of
from aitp_cp.web.cors import RawHeaders
from aitp_cp.web.endpoint import Endpoint, Gate
from aitp_cp.web.path import sent_address, sent_path
from aitp_cp.web.responses import see_other

NOT_DONE = "Nothing was done."
NOT_KNOWN = "It is not known whether this was done: look before you do it again."
HTML = "text/html; charset=utf-8"
HSTS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")
# Of what is no page: a page has a policy of its own, with its nonce.
NOTHING = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'")
APART = (
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
)


class RefusalView(msgspec.Struct, frozen=True):
    """`again` is the address to try, None where asking again changes nothing.

    Of an action `outcome` says what is known, and `page` is where its form is, None where there is no such page.
    """

    status: int
    code: str
    sentence: str
    again: str | None
    outcome: str | None
    page: str | None


class ConsoleEdge:
    """What the edge asks about every path."""

    def __init__(self, rt: Runtime, endpoints: Iterable[Endpoint]) -> None:
        self._console = rt.get(Console)
        self._pages = [compile_path(each.path)[0] for each in endpoints if each.method == "GET" and not each.streaming]
        self._origin = rt.settings.console_origin or ""
        self._headers: RawHeaders = (NOTHING, *APART, *((HSTS,) if self._console.secure else ()))

    def headers(self, path: str) -> RawHeaders:
        """Return the headers that every answer under `/console` has."""
        return self._headers if _is_ours(path) else ()

    def refusal(self, request: Request, error: AppError) -> Response | None:
        """Return what a browser sees instead of an error in JSON; None where a program asks."""
        path = request.url.path
        if path in ("/", ROOT) and isinstance(error, NotFound) and request.method in ("GET", "HEAD"):
            return see_other(f"{self._origin}{ROOT}/") if _is_browser(request) else None
        ours = path.startswith(f"{ROOT}/") or (_is_ours(path) and _is_browser(request))
        return self._page(request, error) if ours else None

    def _page(self, request: Request, error: AppError) -> Response:
        frame = self._console.frame(request, error.code)
        acts = request.method not in ("GET", "HEAD")
        again = None if acts or error.status in (400, 404, 403) else sent_address(request.scope)
        outcome, page = (_outcome(request, error), self._page_of(sent_path(request.scope))) if acts else (None, None)
        view = RefusalView(error.status, error.code, error.message, again, outcome, page)
        body = self._console.page("error.html", view, frame).encode(errors="replace")
        response = Response(body, error.status, error.headers, media_type=HTML)
        response.headers["content-security-policy"] = POLICY.format(nonce=frame.nonce)
        return response

    def _page_of(self, path: str) -> str | None:
        """Return the nearest page above an action, which has its form."""
        while path.startswith(f"{ROOT}/"):
            if any(pattern.match(path) for pattern in self._pages):
                return path
            path = path.rpartition("/")[0]
        return None


def _outcome(request: Request, error: AppError) -> str:
    """Return what is known of an action that failed: one that was not admitted has not begun, another may still run."""
    context = context_of(request)
    endpoint = context.endpoint
    admitted = endpoint is not None and (endpoint.gate is not Gate.SESSION or context.principal is not None)
    runs = error.status >= 500 or isinstance(error, IdempotencyInFlight)
    return NOT_KNOWN if runs and admitted else NOT_DONE


def _is_ours(path: str) -> bool:
    """Return whether a path is of the console, in whatever case somebody has typed it."""
    return path.lower() == ROOT or path.lower().startswith(f"{ROOT}/")


def _is_browser(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")
