"""The outermost ASGI application: what happens to every request, whatever its endpoint.

Request id, log line and metrics, limits of the head, host rule, CORS, client address, and errors in one shape.
"""

import asyncio
import time
from typing import Protocol

import structlog
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from aitp_cp.errors import (
    AppError,
    HeadersTooLarge,
    Internal,
    RateLimited,
    ShuttingDown,
    SignatureInvalid,
    UriTooLong,
)
from aitp_cp.runtime import Runtime
from aitp_cp.web import cors
from aitp_cp.web.account import account
from aitp_cp.web.client_ip import client_ip
from aitp_cp.web.connections import Connections, Limits
from aitp_cp.web.context import CONTEXT, REFUSED, RequestContext, request_id
from aitp_cp.web.hosts import HostRule
from aitp_cp.web.responses import error_response
from aitp_cp.web.routing import Router

MAX_QUERY_BYTES = 16 * 1024
MAX_PATH_BYTES = 8 * 1024
MAX_HEADER_BYTES = 8 * 1024

NOSNIFF = (b"x-content-type-options", b"nosniff")
NO_STORE = (b"cache-control", b"no-store")
# A client that keeps its connection would find it closed at the end of the drain, perhaps under its next request.
CLOSE = (b"connection", b"close")
CUT_OFF = "the server is stopping before the request was done"
NO_CONTENT = Response(status_code=204)
# A browser that opens a response of the API as a page runs nothing of it.
SANDBOX = ((b"content-security-policy", b"default-src 'none'; sandbox; frame-ancestors 'none'"),)

log = structlog.get_logger("aitp_cp.http")


class Pages(Protocol):
    """Answers people, under paths of its own."""

    def headers(self, path: str) -> cors.RawHeaders:
        """Return what every response under this path has, unless its handler has given one of the name."""

    def refusal(self, request: Request, error: AppError) -> Response | None:
        """Return the page that says so; None where a program asks."""


class Edge:
    """Runs the router for each request and renders what it raises."""

    def __init__(self, rt: Runtime, router: Router, pages: Pages | None = None) -> None:
        settings = rt.settings
        self.recognises = router.recognises
        limits = Limits(settings.max_connections, settings.max_unsent_mib * 2**20, settings.keep_alive_ms / 1000)
        self.connections = Connections(limits, rt.metrics, self._refuse_bytes)
        self._rt = rt
        self._router = router
        self._pages = pages
        self._hosts = HostRule(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _close_websocket(scope, receive, send)
            return
        exchange = _Exchange(self._rt, scope, send, self._pages)
        try:
            if self._hosts.applies_to(scope["path"]):
                self._hosts.check_host(scope["path"], Headers(scope=scope))
            _check_head(scope, exchange.header_bytes)
            if scope["method"] == "OPTIONS" and cors.applies_to(scope["path"]):
                await NO_CONTENT(scope, receive, exchange.send)
            else:
                await self._router(scope, receive, exchange.send)
        except AppError as refusal:
            await exchange.fail(self._charge(exchange.context, refusal, Headers(scope=scope)), receive)
        except asyncio.CancelledError:
            # The server has waited long enough for its last requests; what this one did is not known.
            if not self._rt.draining or exchange.status:
                raise
            log.warning("request_cut_off_by_shutdown")
            await exchange.fail(ShuttingDown(CUT_OFF, headers={"Retry-After": "1"}), receive)
        except Exception:
            log.exception("request_failed", request_id=exchange.context.request_id)
            await exchange.fail(Internal(), receive)
        finally:
            exchange.finish()

    def _charge(self, context: RequestContext, refusal: AppError, headers: Headers) -> AppError:
        """Spend a token for a request that reached no endpoint, or whose body its signer did not send.

        Return what to answer.
        """
        try:
            if context.endpoint is None:
                self._router.charge(context, headers)
            elif context.digests and isinstance(refusal, SignatureInvalid):
                self._router.charge_address(context)
        except RateLimited as limited:
            return limited
        return refusal

    def _refuse_bytes(self, peer: str, refusal: AppError, scope: Scope | None) -> AppError:
        """Charge and log bytes that are not a request; return what to answer, with the id of its line in the log.

        `scope` is that of the request that began with them, which logs the refusal as its own response.
        """
        context = RequestContext(request_id(None), peer, reason=refusal.message)
        context.error = refusal = self._charge(context, refusal, Headers())
        if scope is None:
            account(self._rt, context, "other", refusal.status, 0.0)
        else:
            begun: RequestContext | None = scope.get(CONTEXT)
            offered = Headers(scope=scope).get("x-request-id") if "headers" in scope else None
            context.request_id = request_id(offered) if begun is None else begun.request_id
            scope[REFUSED] = context
        refusal.headers["X-Request-Id"] = context.request_id
        return refusal


class _Exchange:
    """One request and its response."""

    __slots__ = ("_cors", "_more", "_pages", "_rt", "_scope", "_send", "_started", "context", "header_bytes", "status")

    def __init__(self, rt: Runtime, scope: Scope, send: Send, pages: Pages | None) -> None:
        self._started = time.perf_counter()
        self._rt = rt
        self._scope = scope
        self._send = send
        self._pages = pages
        self.status = 0  # of the response, once it has begun
        settings = rt.settings
        origin = offered = None
        size = 0
        for name, value in reversed(scope["headers"]):  # the first of several counts
            size += len(name) + len(value)
            if name == b"x-request-id":
                offered = value.decode("latin-1")
            elif name == b"origin":
                origin = value.decode("latin-1")
        self.header_bytes = size
        peer = scope["client"][0] if scope.get("client") else None
        self.context = scope[CONTEXT] = RequestContext(
            request_id(offered),
            client_ip(Headers(scope=scope), peer, header=settings.client_ip_header, hops=settings.trusted_proxy_hops),
        )
        structlog.contextvars.bind_contextvars(request_id=self.context.request_id)
        self._cors: cors.RawHeaders = ()
        if cors.applies_to(scope["path"]):
            self._cors = cors.headers(origin, settings.cors_origin, preflight=scope["method"] == "OPTIONS")
        self._more: cors.RawHeaders = ()  # for browsers, where the handler has not said it better
        if scope["path"].startswith("/api/"):
            self._more = SANDBOX
        elif pages is not None:
            self._more = pages.headers(scope["path"])

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = self._with_ours(message["headers"])
        await self._send(message)

    def _with_ours(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Return the headers of the response: the handler's first, then those that every response has."""
        names = [name for name, _ in headers]
        headers = [*headers, NOSNIFF, *self._cors, (b"x-request-id", self.context.request_id.encode())]
        if b"cache-control" not in names:
            headers.append(NO_STORE)
        headers += [header for header in self._more if header[0] not in names]
        if self._rt.draining:
            headers.append(CLOSE)
        for name, value in self.context.headers.items():
            raw = name.lower().encode()
            if raw not in names:
                headers.append((raw, value.encode("latin-1")))
        return headers

    async def fail(self, error: AppError, receive: Receive) -> None:
        self.context.error = error
        if self.status:  # too late to say anything: the response had begun
            log.warning("response_cut_short", code=error.code)
            raise ConnectionAbortedError(error.code)
        page = self._pages and self._pages.refusal(Request(self._scope), error)
        await (page or error_response(error))(self._scope, receive, self.send)

    def finish(self) -> None:
        refused: RequestContext | None = self._scope.get(REFUSED)
        if refused is not None and refused.error is not None:  # this is what the client got
            context, self.status = self.context, refused.error.status
            context.request_id, context.error, context.reason = refused.request_id, refused.error, refused.reason
        account(self._rt, self.context, self._scope["method"], self.status, time.perf_counter() - self._started)


def _check_head(scope: Scope, header_bytes: int) -> None:
    """Refuse a target that no route could mean, and a head that is too large."""
    path = scope["path"]
    if len(scope["query_string"]) > MAX_QUERY_BYTES or len(path) > MAX_PATH_BYTES:
        raise UriTooLong
    if header_bytes > MAX_HEADER_BYTES:
        raise HeadersTooLarge


async def _close_websocket(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1000})
