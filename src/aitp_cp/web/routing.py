"""From the endpoint table to an ASGI application: match, admit, handle."""

from collections.abc import Awaitable, Iterable, Iterator, Sequence
from re import Pattern
from typing import TypeVar
from urllib.parse import unquote, urlencode

from starlette.requests import Request
from starlette.routing import compile_path
from starlette.types import Receive, Scope, Send

from aitp_cp.errors import BadRequest, MethodNotAllowed, NotFound, SignInRequired, StepUpRequired
from aitp_cp.runtime import Runtime
from aitp_cp.web import cors
from aitp_cp.web.body import read_body
from aitp_cp.web.caller_reads import CallerReads
from aitp_cp.web.context import BODY, CONTEXT, RequestContext
from aitp_cp.web.endpoint import CONSOLE, Endpoint
from aitp_cp.web.gate import FRAGMENT, Gatekeeper
from aitp_cp.web.path import sent_address, sent_path
from aitp_cp.web.principal import Agents, Credentials, Sessions
from aitp_cp.web.responses import see_other

T = TypeVar("T")
LOGIN = CONSOLE + "login"
Methods = dict[str, tuple[Endpoint, str]]  # with the path as logs show it


class Router:
    """Looks a fixed path up in a table; tries only patterns of the same number of segments otherwise."""

    def __init__(
        self,
        rt: Runtime,
        endpoints: Iterable[Endpoint],
        credentials: Sequence[Credentials] = (),
        agents: Agents | None = None,
        sessions: Sessions | None = None,
    ) -> None:
        self._rt = rt
        self._gatekeeper = Gatekeeper(rt, credentials, agents, sessions)
        self.recognises = self._gatekeeper.recognises
        self.charge = self._gatekeeper.charge
        self.charge_address = self._gatekeeper.charge_address
        self._reads = CallerReads(rt.metrics.rate_limit_drops)
        self._fixed: dict[str, Methods] = {}
        self._patterns: dict[int, list[tuple[Pattern[str], Methods]]] = {}
        for endpoint in endpoints:
            self._methods_at(endpoint.path)[endpoint.method] = (endpoint, endpoint.template)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        methods, scope["path_params"] = self._match(sent_path(scope))
        context: RequestContext = scope[CONTEXT]
        endpoint, context.route = _choose(methods, scope)
        context.endpoint = endpoint
        request = Request(scope, receive)
        try:
            await self._handle(context, endpoint, request, send)
        except SignInRequired:
            # Only a page leads to another page: a script must learn that it has none.
            if scope["method"] not in ("GET", "HEAD") or FRAGMENT in request.headers or endpoint.streaming:
                raise
            await see_other(f"{LOGIN}?{urlencode({'to': sent_address(scope)})}")(scope, receive, send)
        except StepUpRequired as needed:
            await see_other(f"{LOGIN}?{urlencode({'to': needed.back, 'again': 1})}")(scope, receive, send)

    async def _handle(self, context: RequestContext, endpoint: Endpoint, request: Request, send: Send) -> None:
        scope, receive = request.scope, request.receive
        await self._bounded(endpoint, self._gatekeeper.admit(context, endpoint, request))
        _check_path(endpoint, scope["path_params"])
        if endpoint.body is None and BODY in scope:
            await read_body(request)  # a request that was not sent whole is not executed, even if no body is used
        with self._rt.db.on_behalf_of(context.caller, writes=endpoint.method != "GET"):
            if endpoint.bulk and context.caller is not None:
                async with self._reads.slot(context.caller):
                    response = await self._bounded(endpoint, endpoint.handler(self._rt, request))
                    await response(scope, receive, send)
            else:
                response = await self._bounded(endpoint, endpoint.handler(self._rt, request))
                await response(scope, receive, send)

    def _bounded(self, endpoint: Endpoint, work: Awaitable[T]) -> Awaitable[T]:
        """Give a page up when the database is silent; a program waits as the contract says."""
        return self._rt.db.while_it_answers(work) if endpoint.of_console else work

    def _methods_at(self, path: str) -> Methods:
        if "{" not in path:
            return self._fixed.setdefault(path, {})
        pattern, _, _ = compile_path(path)
        siblings = self._patterns.setdefault(path.count("/"), [])
        for known, methods in siblings:
            if known.pattern == pattern.pattern:
                return methods
        siblings.append((pattern, {}))
        return siblings[-1][1]

    def _match(self, sent: str) -> tuple[Methods, dict[str, str]]:
        methods = self._fixed.get(sent)
        if methods is not None:
            return methods, {}
        for pattern, methods in self._patterns.get(sent.count("/"), ()):
            match = pattern.match(sent)
            if match:
                return methods, {name: unquote(value) for name, value in match.groupdict().items()}
        if "\0" in unquote(sent):
            raise _nul_in_path()
        raise NotFound("no such route")


def _choose(methods: Methods, scope: Scope) -> tuple[Endpoint, str]:
    method = scope["method"]
    chosen = methods.get("GET" if method == "HEAD" else method)
    if chosen is None or (method == "HEAD" and chosen[0].streaming):
        raise MethodNotAllowed(headers={"Allow": ", ".join(sorted(_allowed(methods, scope["path"])))})
    return chosen


def _check_path(endpoint: Endpoint, values: dict[str, str]) -> None:
    """Refuse a NUL character, but for UUIDs, whose reader refuses it with a code of its own."""
    if any("\0" in value and name not in endpoint.uuids for name, value in values.items()):
        raise _nul_in_path()


def _nul_in_path() -> BadRequest:
    return BadRequest("the path holds a NUL character")


def _allowed(methods: Methods, path: str) -> Iterator[str]:
    """Yield the methods that have an endpoint, and those that are answered without one of their own."""
    yield from methods
    if "GET" in methods and not methods["GET"][0].streaming:
        yield "HEAD"
    if cors.applies_to(path):
        yield "OPTIONS"
