"""How the edge answers people: errors of the console as pages, headers that browsers obey, and the way in from `/`."""

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.console.parts.link import ROOT
from aitp_cp.console.shell import POLICY, Console, address_of, is_secure
from aitp_cp.errors import AppError, NotFound
from aitp_cp.runtime import Runtime
from aitp_cp.web.cors import RawHeaders
from aitp_cp.web.responses import see_other

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
    """`again` is the address to try, None where asking again changes nothing."""

    status: int
    code: str
    sentence: str
    again: str | None


class ConsoleEdge:
    """What the edge asks about every path."""

    def __init__(self, rt: Runtime) -> None:
        self._console = rt.get(Console)
        self._origin = rt.settings.console_origin or ""
        secure = is_secure(rt.settings)
        self._headers: Sequence[tuple[bytes, bytes]] = (NOTHING, *APART, *((HSTS,) if secure else ()))

    def headers(self, path: str) -> RawHeaders:
        """Return the headers that every answer under `/console` has."""
        return tuple(self._headers) if path.startswith(f"{ROOT}/") or path == ROOT else ()

    def refusal(self, request: Request, error: AppError) -> Response | None:
        """Return what a browser sees instead of an error in JSON; None where a program asks."""
        path = request.url.path
        if path in ("/", ROOT):
            to_console = isinstance(error, NotFound) and request.method in ("GET", "HEAD") and _is_browser(request)
            return see_other(f"{self._origin}{ROOT}/") if to_console else None
        if not path.startswith(f"{ROOT}/"):
            return None
        return self._page(request, error)

    def _page(self, request: Request, error: AppError) -> Response:
        frame = self._console.frame(request, error.code)
        again = (
            address_of(request) if request.method in ("GET", "HEAD") and error.status not in (400, 404, 403) else None
        )
        view = RefusalView(error.status, error.code, error.message, again)
        body = self._console.page("error.html", view, frame).encode(errors="replace")
        response = Response(body, error.status, error.headers, media_type=HTML)
        response.headers["content-security-policy"] = POLICY.format(nonce=frame.nonce)
        return response


def _is_browser(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")
