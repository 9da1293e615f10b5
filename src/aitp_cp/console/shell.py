"""What every page has around it: templates, navigation, the reader's preferences, the policy of its content."""

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request

from aitp_cp import __version__
from aitp_cp.accounts.service import is_fresh
from aitp_cp.console.parts import GLOBALS
from aitp_cp.console.parts.link import ROOT
from aitp_cp.console.static_files import StaticFiles
from aitp_cp.errors import BodyInvalid, NotFound
from aitp_cp.ops.figures import Figures
from aitp_cp.protocol.namespace import check_namespace
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.web.context import context_of
from aitp_cp.web.path import sent_address
from aitp_cp.web.principal import ANYONE

TEMPLATES = Path(__file__).parent / "templates"
POSITION = "aitp_cp.console.position"  # in the scope of a request
REFUSED = "aitp_cp.console.refused"  # likewise
ASIDE = frozenset({"before", "offset", "after", "order", "refresh", "format"})  # parameters that filter nothing
NO_REGIONS = frozenset({"title", "actions", "main"})  # blocks of pages that are not live by themselves
POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types console; report-uri /console/csp"
)

# Cookies that hold no secret and say nothing about who reads: how pages look. The first value is the default.
PREFERENCES = {"theme": ("auto", "light", "dark"), "zone": ("utc", "local"), "density": ("close", "wide")}


NAMESPACE = "acp-namespace"  # the cookie of the namespace that lists show; none for all of them


class Entry(msgspec.Struct, frozen=True):
    """A page in the rail, and what it takes to see it."""

    label: str
    path: str
    scope: Scope | None

    def holds(self, address: str) -> bool:
        """Return whether an address is of this page or of one below it."""
        path = address.partition("?")[0]
        return path == self.path or (self.path != f"{ROOT}/" and path.startswith(f"{self.path}/"))


class Refused(msgspec.Struct, frozen=True):
    """Why a form was refused, on the page that has it; `path` is that page's address."""

    sentence: str
    code: str
    path: str


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """What templates know beside their view, under the name `frame`."""

    title: str
    path: str  # of this page, with its query
    query: dict[str, str]  # of this page, without its place in a list and its format
    nav: list[Entry]  # the pages that the reader may see
    theme: str
    zone: str
    density: str
    namespace: str  # that lists show where they are not asked for another; empty for all
    namespaces: frozenset[str]  # that are in use
    nonce: str
    now: datetime
    seq: int  # a position of the log that the page holds everything up to; 0 where that is not known
    request_id: str
    who: str | None  # None where the gate is open, and before sign-in
    session: UUID | None  # likewise
    fresh: bool  # the reader has shown a credential within five minutes, or the gate is open
    open_gate: bool
    insecure: bool  # served over plain HTTP
    scopes: frozenset[Scope]
    version: str
    base_url: str  # of the API
    refused: Refused | None

    def may(self, scope: str) -> bool:
        """Return whether the reader has a scope: what he may not do has no button."""
        return scope in self.scopes

    def may_open(self, address: str) -> bool:
        """Return whether the reader has a page, or the one above it, in the rail."""
        return any(entry.holds(address) for entry in self.nav)


class Console:
    """The console of one process."""

    def __init__(self, rt: Runtime, entries: Sequence[Entry]) -> None:
        self.static = StaticFiles()
        self._rt = rt
        self._entries = entries
        # Whether browsers reach the console by https.
        self.secure = (rt.settings.console_origin or rt.settings.cp_base_url).startswith("https:")
        self._templates = environment(self.static.url)

    def frame(self, request: Request, title: str) -> Frame:
        """Return what surrounds the page that answers this request."""
        context = context_of(request)
        principal = context.principal
        return Frame(
            title=title,
            path=page_of(request),
            query={name: value for name, value in first_values(request).items() if value and name not in ASIDE},
            nav=[
                entry
                for entry in self._entries
                if principal is not None and (entry.scope is None or entry.scope in principal.scopes)
            ],
            **{name: preference(request, name) for name in PREFERENCES},
            namespace=namespace_of(request) or "",
            namespaces=self._rt.get(Figures).namespaces,
            nonce=secrets.token_urlsafe(16),
            now=self._rt.clock(),
            seq=request.scope.get(POSITION, 0),
            request_id=context.request_id,
            who=None if principal is None or principal is ANYONE else principal.name or principal.actor,
            session=context.session,
            fresh=is_fresh(self._rt, request),
            open_gate=principal is ANYONE,
            insecure=not self.secure,
            scopes=context.scopes,
            version=__version__,
            base_url=self._rt.settings.cp_base_url.rstrip("/"),
            refused=request.scope.get(REFUSED),
        )

    def page(self, template: str, view: Any, frame: Frame) -> str:
        return self._templates.get_template(template).render(view=view, frame=frame)

    def region(self, template: str, name: str, view: Any, frame: Frame) -> str:
        """Return one live region of a page: the block of its name. Raises `NotFound`."""
        page = self._templates.get_template(template)
        block = None if name in NO_REGIONS else page.blocks.get(name)
        if block is None:
            raise NotFound("this page has no such region")
        return "".join(block(page.new_context({"view": view, "frame": frame})))


def environment(static: Callable[[str], str]) -> Environment:
    """Return the templates' environment: everything is escaped, and a name that does not exist fails."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals |= {**GLOBALS, "static": static}
    return made


def page_of(request: Request) -> str:
    """Return the address of the page that is answered: of a refused form, the page that has the form."""
    refused: Refused | None = request.scope.get(REFUSED)
    return sent_address(request.scope) if refused is None else refused.path


def first_values(request: Request) -> dict[str, str]:
    """Return the parameters of a page; the first of repeated ones counts."""
    return dict(reversed(request.query_params.multi_items()))


def preference(request: Request, name: str) -> str:
    values = PREFERENCES[name]
    value = request.cookies.get(f"acp-{name}")
    return value if value in values else values[0]


def namespace_of(request: Request) -> str | None:
    """Return the namespace that the reader has chosen, None for all."""
    try:
        return check_namespace(request.cookies.get(NAMESPACE, ""))
    except BodyInvalid:
        return None
