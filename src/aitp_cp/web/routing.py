"""From the endpoint table to an ASGI application: match, admit, handle."""

from collections.abc import Iterable, Iterator
from re import Pattern
from urllib.parse import quote, unquote

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.routing import compile_path
from starlette.types import Receive, Scope, Send

from aitp_cp.errors import MethodNotAllowed, NotFound
from aitp_cp.runtime import Runtime
from aitp_cp.web import cors
from aitp_cp.web.body import read_body
from aitp_cp.web.caller_reads import CallerReads
from aitp_cp.web.context import context_of
from aitp_cp.web.endpoint import Endpoint
from aitp_cp.web.framing import BODY
from aitp_cp.web.gate import Doorkeeper
from aitp_cp.web.ready import ReadyAnswers, ReadyResponse

Methods = dict[str, Endpoint]


class Router:
    """Looks a fixed path up in a table; tries only patterns of the same number of segments otherwise."""

    def __init__(self, rt: Runtime, endpoints: Iterable[Endpoint]) -> None:
        self._rt = rt
        self._doorkeeper = Doorkeeper(rt)
        self.recognises = self._doorkeeper.recognises
        self.turn_away = self._doorkeeper.turn_away
        self._reads = CallerReads(rt.metrics.rate_limit_drops)
        self.ready = ReadyAnswers(rt, self._doorkeeper)
        self._fixed: dict[str, Methods] = {}
        self._patterns: dict[int, list[tuple[Pattern[str], Methods]]] = {}
        for endpoint in endpoints:
            self._methods_at(endpoint.path)[endpoint.method] = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        methods, scope["path_params"] = self._match(scope["path"], scope.get("raw_path"))
        endpoint = _choose(methods, scope)
        context = context_of(scope)
        context.endpoint = endpoint
        self._doorkeeper.admit(context, endpoint, Headers(scope=scope))
        request = Request(scope, receive)
        if endpoint.body is None and BODY in scope:
            await read_body(request)  # what was not sent whole is not executed, also where no body is used
        if endpoint.bulk and context.caller is not None:
            async with self._reads.slot(context.caller):
                await self._handle(endpoint, request, send)
        else:
            await self._handle(endpoint, request, send)

    async def _handle(self, endpoint: Endpoint, request: Request, send: Send) -> None:
        response = await endpoint.handler(self._rt, request)
        if isinstance(response, ReadyResponse):
            self.ready.keep(request.scope, endpoint, response.peek)
        await response(request.scope, request.receive, send)

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

    def _match(self, path: str, raw: bytes | None) -> tuple[Methods, dict[str, str]]:
        # As it was sent. An id may hold a slash, which its sender has escaped; and a fixed path in another spelling
        # (`/api%2fmetrics`) would pass a proxy that denies the plain one.
        sent = quote(path) if raw is None else raw.decode("latin-1")
        fixed = self._fixed.get(sent)
        if fixed is not None:
            return fixed, {}
        for pattern, methods in self._patterns.get(sent.count("/"), ()):
            found = pattern.match(sent)
            if found:
                return methods, {name: unquote(value) for name, value in found.groupdict().items()}
        raise NotFound("no such route")


def _choose(methods: Methods, scope: Scope) -> Endpoint:
    method = scope["method"]
    endpoint = methods.get("GET" if method == "HEAD" else method)
    if endpoint is None or (method == "HEAD" and endpoint.streaming):
        raise MethodNotAllowed(headers={"Allow": ", ".join(sorted(_allowed(methods, scope["path"])))})
    return endpoint


def _allowed(methods: Methods, path: str) -> Iterator[str]:
    """What has an endpoint, and what is answered without one of its own."""
    yield from methods
    if "GET" in methods and not methods["GET"].streaming:
        yield "HEAD"
    if cors.applies_to(path):
        yield "OPTIONS"
