"""What every request passes, once: request id, log and metrics, CORS, client address, errors in one shape."""

import asyncio
import time

import structlog
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from aitp_cp.errors import AppError, BadRequest, HeadersTooLarge, Internal, RateLimited, ShuttingDown, UriTooLong
from aitp_cp.runtime import Runtime
from aitp_cp.settings import Settings
from aitp_cp.web import cors
from aitp_cp.web.account import account
from aitp_cp.web.client_ip import client_ip
from aitp_cp.web.connections import Connections, Limits
from aitp_cp.web.context import CONTEXT, RequestContext, request_id
from aitp_cp.web.headers import completed
from aitp_cp.web.hosts import HostRule
from aitp_cp.web.http import MAX_HEADER_BYTES, MAX_PATH_BYTES, MAX_QUERY_BYTES
from aitp_cp.web.responses import error_response
from aitp_cp.web.routing import Router

# A client that keeps its connection would find it closed at the end of the drain, perhaps under its next request.
CLOSE = (b"connection", b"close")
CUT_OFF = "the server is stopping before the request was done"

log = structlog.get_logger("aitp_cp.http")


class Edge:
    """The outermost ASGI application."""

    def __init__(self, rt: Runtime, app: Router) -> None:
        self._rt = rt
        self._app = app
        self.at_once = app.ready.answer
        self.recognises = app.recognises
        self._hosts = HostRule(rt.settings)
        self.connections = Connections(_limits(rt.settings), rt.metrics, self._refuse_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _refuse(scope, receive, send)
            return
        exchange = _Exchange(self._rt, scope, send)
        try:
            await self._answer(scope, receive, exchange)
        finally:
            exchange.finish()

    async def _answer(self, scope: Scope, receive: Receive, exchange: "_Exchange") -> None:
        try:
            if self._hosts.active:
                self._hosts.check_host(Headers(scope=scope))
            early = _early_answer(scope)
            if early is not None:
                await early(scope, receive, exchange.send)
            else:
                await self._app(scope, receive, exchange.send)
        except AppError as refused:
            await exchange.fail(self._turned_away(exchange.context, refused, Headers(scope=scope)), receive)
        except asyncio.CancelledError:
            # The server has waited long enough for its last requests; what this one did is not known.
            if not self._rt.draining or exchange.status:
                raise
            log.warning("request cut off by the end of the process")
            await exchange.fail(ShuttingDown(CUT_OFF, headers={"Retry-After": "1"}), receive)
        except Exception:
            log.exception("request failed", request_id=exchange.context.request_id)
            await exchange.fail(Internal(), receive)

    def _turned_away(self, context: RequestContext, refused: AppError, headers: Headers) -> AppError:
        """Spend a token for a request that reached no endpoint; what to answer."""
        if context.endpoint is None:
            try:
                self._app.turn_away(context, headers)
            except RateLimited as limited:
                return limited
        return refused

    def _refuse_bytes(self, peer: str, refusal: AppError, executed: bool) -> AppError:
        """Spend a token for bytes that are no request, and tell of them; what to answer."""
        context = RequestContext(request_id(None), peer)
        context.error = refusal = self._turned_away(context, refusal, Headers())
        if not executed:
            account(self._rt, context, "other", refusal.status, 0.0)
        return refusal


class _Exchange:
    """One request and its answer, as the edge sees them."""

    __slots__ = ("_cors", "_rt", "_scope", "_send", "_started", "context", "status")

    def __init__(self, rt: Runtime, scope: Scope, send: Send) -> None:
        headers = Headers(scope=scope)
        settings = rt.settings
        peer = scope["client"][0] if scope.get("client") else None
        self.context = RequestContext(
            request_id=request_id(headers.get("x-request-id")),
            client_ip=client_ip(headers, peer, header=settings.client_ip_header, hops=settings.trusted_proxy_hops),
        )
        scope[CONTEXT] = self.context
        structlog.contextvars.bind_contextvars(request_id=self.context.request_id)
        self._rt = rt
        self._scope = scope
        self._send = send
        self._cors = cors.raw_headers(scope, headers.get("origin"), settings.cors_origin)
        self._started = time.perf_counter()
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = self._with_ours(message["headers"])
        await self._send(message)

    def _with_ours(self, present: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        headers = [*completed(present), *self._cors, (b"x-request-id", self.context.request_id.encode())]
        if self._rt.draining:
            headers.append(CLOSE)
        if self.context.headers:
            names = {name for name, _ in present}
            given = [(name.lower().encode(), value.encode("latin-1")) for name, value in self.context.headers.items()]
            headers += [(name, value) for name, value in given if name not in names]
        return headers

    async def fail(self, error: AppError, receive: Receive) -> None:
        self.context.error = error
        if self.status:  # too late to say anything: the answer had begun
            log.warning("answer cut short", code=error.code)
            raise ConnectionAbortedError(error.code)
        await error_response(error)(self._scope, receive, self.send)

    def finish(self) -> None:
        elapsed = time.perf_counter() - self._started
        account(self._rt, self.context, self._scope["method"], self.status, elapsed)


def _limits(settings: Settings) -> Limits:
    return Limits(settings.max_connections, settings.max_unsent_mib * 2**20, settings.keep_alive_ms / 1000)


def _early_answer(scope: Scope) -> Response | None:
    """What needs no handler: preflights, and targets no route could mean."""
    if len(scope["query_string"]) > MAX_QUERY_BYTES or len(scope["path"]) > MAX_PATH_BYTES:
        raise UriTooLong
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
        raise HeadersTooLarge
    if "\0" in scope["path"]:
        raise BadRequest("the path holds a NUL character")
    if scope["method"] == "OPTIONS" and cors.applies_to(scope["path"]):
        return Response(status_code=204)
    return None


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1000})
