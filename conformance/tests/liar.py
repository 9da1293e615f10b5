"""A reverse proxy that falsifies responses in one way."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "host", "date", "server"}


@dataclass
class Reply:
    """A response on its way to the client; a lie changes it in place."""

    method: str
    path: str
    status: int
    headers: CIMultiDict[str]
    body: bytes = b""


Lie = Callable[[Reply], None]


def truth(_: Reply) -> None:
    pass


@asynccontextmanager
async def lying(url: str, lie: Lie) -> AsyncIterator[str]:
    """Yield the address of a proxy in front of `url`."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def pass_on(request: web.Request) -> web.StreamResponse:
            target = URL(url + request.raw_path, encoded=True)
            headers = CIMultiDict(
                (name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP
            )
            async with session.request(
                request.method, target, headers=headers, data=await request.read() or None, allow_redirects=False
            ) as upstream:
                return await _passed_on(request, upstream, lie)

        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", pass_on)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


async def _passed_on(request: web.Request, upstream: aiohttp.ClientResponse, lie: Lie) -> web.StreamResponse:
    headers = CIMultiDict((name, value) for name, value in upstream.headers.items() if name.lower() not in HOP_BY_HOP)
    reply = Reply(request.method, request.path, upstream.status, headers)
    if upstream.content_type == "text/event-stream":
        return await _streamed(request, upstream, reply, lie)
    reply.body = await upstream.read()
    lie(reply)
    return web.Response(status=reply.status, body=reply.body or None, headers=reply.headers)


async def _streamed(
    request: web.Request, upstream: aiohttp.ClientResponse, reply: Reply, lie: Lie
) -> web.StreamResponse:
    lie(reply)
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    await response.prepare(request)
    with suppress(ConnectionError):
        async for chunk in upstream.content.iter_any():
            reply.body = chunk
            lie(reply)
            await response.write(reply.body)
    return response
