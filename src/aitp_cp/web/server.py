"""uvicorn with a graceful end: readiness first, then streams, then the listener (contract, section 16)."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from socket import socket

import structlog
import uvicorn

from aitp_cp.web.http import JsonHttpProtocol

log = structlog.get_logger("aitp_cp.server")

FINISH_REQUESTS_SECS = 10
SIGNALS = (signal.SIGTERM, signal.SIGINT)

Drain = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Hooks:
    """For whoever started the process: called once it listens, and before it exits without waiting for anything."""

    listening: Callable[[], None] = lambda: None
    leaving: Callable[[], None] = lambda: None


NO_HOOKS = Hooks()


class Server(uvicorn.Server):
    """Told to end it runs `drain`, then closes the listener; told again it exits at once.

    It is told by signals, or, one of several that share a port, by the end of the pipe `leash`.
    """

    def __init__(self, config: uvicorn.Config, drain: Drain, leash: int | None, hooks: Hooks) -> None:
        super().__init__(config)
        self._drain = drain
        self._leash = leash
        self._hooks = hooks
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._hooks.listening()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with on_end(self._on_end, self._leash):
            yield

    def _on_end(self, reason: str) -> None:
        if self._draining is not None:
            exit_at_once(reason, self._hooks.leaving)
        log.info("draining", reason=reason)
        self._draining = asyncio.get_running_loop().create_task(self._end())

    async def _end(self) -> None:
        try:
            await self._drain()
        except Exception:
            log.exception("the drain broke off")
        finally:
            self.should_exit = True


@contextmanager
def on_end(told: Callable[[str], None], leash: int | None = None) -> Iterator[None]:
    """Call `told` with a reason at SIGTERM and SIGINT, or when the other end of the pipe `leash` is closed.

    Whoever handled the signals before does so again afterwards.
    """
    loop = asyncio.get_running_loop()
    if leash is not None:
        loop.add_reader(leash, _let_go, loop, leash, told)
        try:
            yield
        finally:
            loop.remove_reader(leash)
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        loop.add_signal_handler(number, told, number.name)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler or signal.SIG_DFL)  # None for one that Python does not know


def _let_go(loop: asyncio.AbstractEventLoop, leash: int, told: Callable[[str], None]) -> None:
    loop.remove_reader(leash)  # the end of a pipe can be read again and again
    told("the parent let go")


def exit_at_once(reason: str, leaving: Callable[[], None] = NO_HOOKS.leaving) -> None:
    """The second request to end: nothing is waited for but `leaving`."""
    log.warning("exiting at once", reason=reason)
    try:
        leaving()
    except Exception:
        log.exception("something is left behind")
    os._exit(128 + getattr(signal, reason, signal.SIGTERM))


def build_server(
    app: object, *, host: str, port: int, drain: Drain, leash: int | None = None, hooks: Hooks = NO_HOOKS
) -> Server:
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
    return Server(config, drain, leash, hooks)
