"""uvicorn with a graceful end: readiness first, then streams, then the listener (contract, section 16)."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import structlog
import uvicorn

from aitp_cp.web.sse import SseHttpProtocol

log = structlog.get_logger("aitp_cp.server")

FINISH_REQUESTS_SECS = 10
SIGNALS = (signal.SIGTERM, signal.SIGINT)

Drain = Callable[[], Awaitable[None]]


class JsonHttpProtocol(SseHttpProtocol):
    """Answers what is not even HTTP in the shape of every other error."""

    def send_400_response(self, msg: str) -> None:
        body = b'{"error":"the request is not valid HTTP","code":"BAD_REQUEST"}'
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncache-control: no-store\r\n"
            f"x-content-type-options: nosniff\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


class Server(uvicorn.Server):
    """On the first signal runs `drain`, then closes the listener; a second signal exits at once."""

    def __init__(self, config: uvicorn.Config, drain: Drain) -> None:
        super().__init__(config)
        self._drain = drain
        self._draining: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    def _on_signal(self, number: int) -> None:
        if self._draining is not None:
            log.warning("second signal: exiting at once")
            os._exit(128 + number)
        log.info("draining", signal=signal.Signals(number).name)
        self._draining = asyncio.get_running_loop().create_task(self._end())

    async def _end(self) -> None:
        try:
            await self._drain()
        finally:
            self.should_exit = True


def build_server(app: object, *, host: str, port: int, drain: Drain) -> Server:
    """A server that trusts no forwarding header by itself and logs through our own handlers."""
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]  # uvicorn's own, narrower idea of an ASGI application
        host=host,
        port=port,
        http=JsonHttpProtocol,
        ws="none",
        loop="uvloop",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=FINISH_REQUESTS_SECS,
    )
    return Server(config, drain)
