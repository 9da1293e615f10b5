"""Every page of the console, and what they need besides: files, preferences, reports of the content policy."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.console.bell import Bell
from aitp_cp.console.forms import Form
from aitp_cp.console.page import OF_PAGES, Screen, action, screen, see_other, with_refusals
from aitp_cp.console.pages.agent import PAGES as AGENT
from aitp_cp.console.pages.agents import PAGES as AGENTS
from aitp_cp.console.pages.audit import PAGES as AUDIT
from aitp_cp.console.pages.contain import PAGES as CONTAIN
from aitp_cp.console.pages.containments import PAGES as CONTAINMENTS
from aitp_cp.console.pages.delegations import PAGES as DELEGATIONS
from aitp_cp.console.pages.deliveries import PAGES as DELIVERIES
from aitp_cp.console.pages.enrol import PAGES as ENROL
from aitp_cp.console.pages.events import PAGES as EVENTS
from aitp_cp.console.pages.graph import PAGES as GRAPH
from aitp_cp.console.pages.keys import PAGES as KEYS
from aitp_cp.console.pages.login import PAGES as LOGIN
from aitp_cp.console.pages.manifests import PAGES as MANIFESTS
from aitp_cp.console.pages.me import PAGES as ME
from aitp_cp.console.pages.overview import PAGES as OVERVIEW
from aitp_cp.console.pages.revocations import PAGES as REVOCATIONS
from aitp_cp.console.pages.search import PAGES as SEARCH
from aitp_cp.console.pages.sessions import PAGES as SESSIONS
from aitp_cp.console.pages.system import PAGES as SYSTEM
from aitp_cp.console.pages.tokens import PAGES as TOKENS
from aitp_cp.console.pages.trust import PAGES as TRUST
from aitp_cp.console.pages.views import PAGES as VIEWS
from aitp_cp.console.pages.webhooks import PAGES as WEBHOOKS
from aitp_cp.console.parts.link import ROOT, own
from aitp_cp.console.shell import NAMESPACE, PREFERENCES, Console, Entry
from aitp_cp.protocol.namespace import check_namespace
from aitp_cp.runtime import Runtime
from aitp_cp.web.body import read_body
from aitp_cp.web.context import context_of
from aitp_cp.web.endpoint import Bucket, Endpoint, Gate
from aitp_cp.web.responses import no_content
from aitp_cp.web.sse import EventStream

YEAR_SECS = 31_536_000
REPORT_BYTES = 16 * 1024
DIRECTIVES = frozenset(
    {
        "base-uri",
        "connect-src",
        "default-src",
        "font-src",
        "form-action",
        "frame-ancestors",
        "frame-src",
        "img-src",
        "manifest-src",
        "media-src",
        "object-src",
        "require-trusted-types-for",
        "script-src",
        "script-src-attr",
        "script-src-elem",
        "style-src",
        "style-src-attr",
        "style-src-elem",
        "trusted-types",
        "worker-src",
    }
)


async def static(rt: Runtime, request: Request) -> Response:
    return rt.get(Console).static.response(request)


async def live(rt: Runtime, request: Request) -> Response:
    bell, context = rt.get(Bell), context_of(request)
    return EventStream(lambda: bell.opened(context.credential_is_valid, context.session))


async def set_preferences(rt: Runtime, request: Request, form: Form) -> Response:
    response = see_other(own(form.get("to")))
    secure = rt.get(Console).secure
    chosen = {f"acp-{name}": form.get(name) for name, values in PREFERENCES.items() if form.get(name) in values}
    if namespace := form.get("namespace"):
        chosen[NAMESPACE] = check_namespace(namespace)
    else:
        response.delete_cookie(NAMESPACE, path=ROOT, secure=secure, httponly=True, samesite="lax")
    for name, value in chosen.items():
        response.set_cookie(name, value, YEAR_SECS, path=ROOT, secure=secure, httponly=True, samesite="lax")
    return response


class _Report(msgspec.Struct, frozen=True, rename="kebab"):
    effective_directive: str = ""
    violated_directive: str = ""


class _Body(msgspec.Struct, frozen=True, rename="kebab"):
    csp_report: _Report


async def count_report(rt: Runtime, request: Request) -> Response:
    """Count a browser's report by its directive, and keep nothing else of it: anyone may send one."""
    body = await read_body(request)
    try:
        report = msgspec.json.decode(body, type=_Body).csp_report
    except msgspec.MsgspecError:
        report = _Report()
    directive = (report.effective_directive or report.violated_directive).partition(" ")[0]
    rt.metrics.console_csp_reports.labels(directive=directive if directive in DIRECTIVES else "other").inc()
    return no_content()


OWN: tuple[Endpoint, ...] = (
    screen("/static/{version}/{name}", static, scope=None, gate=Gate.OPEN, bucket=Bucket.EXEMPT),
    Endpoint(
        f"POST {ROOT}/csp",
        count_report,
        "/csp",
        **{**OF_PAGES, "gate": Gate.OPEN, "body": _Body, "body_limit": REPORT_BYTES, "cross_site": True},
    ),
    screen("/live", live, scope=None, streaming=True),
    action("/preferences", set_preferences, scope=None),
)

# In the order of the rail.
PAGES: tuple[Endpoint, ...] = (
    *OVERVIEW,
    *AGENTS,
    *AGENT,
    *ENROL,
    *MANIFESTS,
    *SEARCH,
    *VIEWS,
    *EVENTS,
    *SESSIONS,
    *TOKENS,
    *DELEGATIONS,
    *REVOCATIONS,
    *CONTAIN,
    *CONTAINMENTS,
    *GRAPH,
    *WEBHOOKS,
    *DELIVERIES,
    *TRUST,
    *AUDIT,
    *SYSTEM,
    *KEYS,
    *ME,
    *LOGIN,
)

ENDPOINTS: tuple[Endpoint, ...] = (*OWN, *with_refusals(PAGES))

ENTRIES = tuple(Entry(page.nav, page.path, page.scope) for page in PAGES if isinstance(page, Screen) and page.nav)
