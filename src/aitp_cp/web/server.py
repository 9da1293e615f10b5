"""uvicorn with a graceful shutdown: readiness first, then streams, then the listener (contract, section 16)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from socket import socket

import structlog
import uvicorn

from aitp_cp.web.connections import Connections
from aitp_cp.web.guards import GuardedProtocol

log = structlog.get_logger("aitp_cp.server")

FINISH_REQUESTS_SECS = 10
# What a proxy has sent on an open connection is answered, not met with a reset: it would not try a POST again.
LINGER_SECS = 0.3

Drain = Callable[[], Awaitable[None]]


def _nothing() -> None:
    pass


class Server(uvicorn.Server):
    """Runs `drain` when told to `end`, then closes the listener. It handles no signals itself."""

    def __init__(self, config: uvicorn.Config, drain: Drain, listening: Callable[[], None], linger_secs: float) -> None:
        super().__init__(config)
        self._drain = drain
        self._linger_secs = linger_secs
        self._listening = listening
        self._ending: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            log.info("listening", at=[_url(sock) for server in self.servers for sock in server.sockets])
            self._listening()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    @property
    def ending(self) -> bool:
        return self._ending is not None

    def end(self, reason: str) -> None:
        """Start the graceful shutdown; `serve` returns when it is done."""
        log.info("draining", reason=reason)
        self._ending = asyncio.get_running_loop().create_task(self._end())

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await asyncio.sleep(self._linger_secs)  # idle connections stay open: new requests are told to close them
        await super().shutdown(sockets)

    async def _end(self) -> None:
        try:
            await self._drain()
        except Exception:
            log.exception("drain_failed")
        finally:
            self.should_exit = True


def _url(sock: socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def build_server(
    app: object,
    *,
    host: str,
    port: int,
    drain: Drain,
    listening: Callable[[], None] = _nothing,
    linger_secs: float = 0,
) -> Server:
    """Return a server that trusts no forwarding header by itself and logs through our own handlers.

    It leaves idle connections open for `linger_secs` after it has closed its listener.
    """
    connections: Connections = getattr(app, "connections", None) or Connections()
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]  # uvicorn's own, narrower idea of an ASGI application
        host=host,
        port=port,
        http=partial(GuardedProtocol, connections=connections),  # type: ignore[arg-type]  # it calls it, no more
        timeout_keep_alive=connections.keep_alive_secs,  # type: ignore[arg-type]  # a part of a second is as good
        ws="none",
        loop="uvloop",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=FINISH_REQUESTS_SECS,
    )
    return Server(config, drain, listening, linger_secs)
