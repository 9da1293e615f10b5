"""Answers that lie ready in memory, given as soon as a request's head has been read.

What a target was answered with is given again while whoever made it says that it still holds. Nothing of a request is
looked at but its headers; where one of those could change the answer, the request goes the ordinary way.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from aitp_cp.runtime import Runtime
from aitp_cp.web import cors
from aitp_cp.web.account import account
from aitp_cp.web.client_ip import UNKNOWN, client_ip
from aitp_cp.web.context import RequestContext, request_id
from aitp_cp.web.endpoint import Endpoint, Gate
from aitp_cp.web.gate import Doorkeeper
from aitp_cp.web.headers import RawHeaders, completed, lines
from aitp_cp.web.hosts import HostRule
from aitp_cp.web.responses import json_bytes

MOST_TARGETS = 2000
LONGEST_TARGET = 1024
# With one of these an answer may be another one, or more of the request is to come.
DECIDING = frozenset({b"if-none-match", b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"range"})

RawRequestHeaders = list[tuple[bytes, bytes]]


class Ready:
    """A 200 in bytes: its head without what depends on the request, and its body."""

    __slots__ = ("body", "head", "headers")

    def __init__(self, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.body = body
        self.headers: RawHeaders = tuple(json_bytes(body, headers=headers).raw_headers)
        self.head = b"HTTP/1.1 200 OK\r\n" + lines(completed(self.headers))


Peek = Callable[[], Ready | None]


class ReadyResponse(Response):
    """An answer that may be given again to the same target while `peek` still gives one."""

    def __init__(self, ready: Ready, peek: Peek) -> None:
        self.ready = ready
        self.peek = peek

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(self.ready.headers)})
        body = b"" if scope["method"] == "HEAD" else self.ready.body
        await send({"type": "http.response.body", "body": body})


@dataclass(frozen=True, slots=True)
class _Kept:
    endpoint: Endpoint
    peek: Peek


class ReadyAnswers:
    """By target, as the request line spells it. Holds no bytes itself, so that what is forgotten elsewhere is gone."""

    def __init__(self, rt: Runtime, doorkeeper: Doorkeeper) -> None:
        self._rt = rt
        self._doorkeeper = doorkeeper
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        settings = rt.settings
        self._looks_at_host = HostRule(settings).active
        self._believes_headers = bool(settings.client_ip_header) or settings.trusted_proxy_hops > 0

    def keep(self, scope: Scope, endpoint: Endpoint, peek: Peek) -> None:
        """Answer this target from now on, if anybody may ask for it."""
        query = scope["query_string"]
        target = scope.get("raw_path", b"") + (b"?" + query if query else b"")
        if endpoint.gate is not Gate.OPEN or scope["method"] != "GET" or len(target) > LONGEST_TARGET:
            return
        self._kept[target] = _Kept(endpoint, peek)
        if len(self._kept) > MOST_TARGETS:
            self._kept.popitem(last=False)

    def answer(self, target: bytes, headers: RawRequestHeaders, peer: str | None) -> tuple[bytes, bytes] | None:
        """Head and body for a GET that keeps its connection, or None for one that must go the ordinary way."""
        kept = self._kept.get(target)
        if kept is None or self._rt.draining or self._looks_at_host:
            return None
        started = time.perf_counter()
        ready = kept.peek()
        if ready is None:
            return None
        offered = origin = None
        for name, value in headers:
            if name in DECIDING:
                return None
            if name == b"x-request-id":
                offered = value.decode("latin-1")
            elif name == b"origin":
                origin = value.decode("latin-1")
        context = RequestContext(request_id(offered), self._address(headers, peer), endpoint=kept.endpoint)
        if not self._doorkeeper.has_room(context, kept.endpoint):
            return None  # refused once more, with all that is to be said about it
        head = ready.head + cors.lines(origin, self._rt.settings.cors_origin) + _of_request(context)
        account(self._rt, context, "GET", 200, time.perf_counter() - started)
        return head, ready.body

    def _address(self, headers: RawRequestHeaders, peer: str | None) -> str:
        if not self._believes_headers:
            return peer or UNKNOWN
        settings = self._rt.settings
        given = Headers(raw=headers)
        return client_ip(given, peer, header=settings.client_ip_header, hops=settings.trusted_proxy_hops)


def _of_request(context: RequestContext) -> bytes:
    own = f"x-request-id: {context.request_id}\r\n"
    for name, value in context.headers.items():
        own += f"{name.lower()}: {value}\r\n"
    return own.encode("latin-1")
