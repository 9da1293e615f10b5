"""One process from boot to drain (contract, section 16)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from socket import socket

import structlog
import typer
import uvloop

from aitp_cp import __version__
from aitp_cp.app import open_app
from aitp_cp.cli.boot import require_fit
from aitp_cp.cli.database import failures_explained
from aitp_cp.cli.exits import ADDRESS
from aitp_cp.cli.findings import findings
from aitp_cp.cli.listening import open_sockets
from aitp_cp.cli.running import Ending, exit_at_once, run
from aitp_cp.db.failures import sentence
from aitp_cp.db.pool import PASSING_FAILURES
from aitp_cp.errors import DatabaseUnavailable
from aitp_cp.events.stream import end_streams
from aitp_cp.keys.cache import KeyCache
from aitp_cp.runtime import Runtime, open_runtime
from aitp_cp.settings import Settings
from aitp_cp.telemetry import logging
from aitp_cp.telemetry.spans import OFF, Tracer
from aitp_cp.web.edge import Edge
from aitp_cp.web.server import LINGER_SECS, build_server
from aitp_cp.web.traced import Traced
from aitp_cp.worker import Background
from aitp_cp_client.commands.output import stop

log = structlog.get_logger("aitp_cp.process")

SEED = "CP_AID_SEED_HEX"  # its warning comes later, with the identity that was made up
Life = Callable[[Ending], Awaitable[None]]

DATABASE_ATTEMPTS = 30  # a database that starts beside the process needs some seconds
DATABASE_RETRY_SECS = 1.0
PASSING: tuple[type[BaseException], ...] = (DatabaseUnavailable, *PASSING_FAILURES)


@dataclass(frozen=True, slots=True)
class Place:
    """What one of several processes gets: its sockets, and a pipe whose other end only the parent holds."""

    sockets: list[socket]
    parent: int


def announce(settings: Settings, *, warn: bool = True) -> None:
    """Start logging, and log what `check` would find in the settings."""
    logging.configure(settings.log_level, json=settings.production)
    if not warn:
        return
    log_at = {"info": log.info, "warn": log.warning, "fail": log.error}
    for finding in findings(settings):
        if finding.subject != SEED:
            log_at[finding.level]("setting_examined", variable=finding.subject, finding=finding.sentence)


def serve(
    settings: Settings, *, jobs: bool, place: Place | None = None, listening: Callable[[], None] = lambda: None
) -> None:
    """Serve until a request to end; `listening` is called once clients can connect.

    Raises `typer.Exit` with the reason's code when the process cannot start.
    """
    sockets = place.sockets if place else open_sockets(settings.host, settings.port, 1)[0]
    life = partial(_serve, settings, jobs=jobs, sockets=sockets, listening=listening)
    _run(life, parent=place.parent if place else None)


def work(settings: Settings) -> None:
    """Run the jobs that replicas share, without a port, until a request to end."""
    _run(partial(_work, settings))


def _run(life: Life, *, parent: int | None = None) -> None:
    try:
        with failures_explained():
            run(life, uvloop.run, parent=parent, code=0)
    except Exception as failure:
        if not isinstance(failure, typer.Exit):
            log.error("process_failed", reason=type(failure).__name__, exc_info=logging.shows_stacks())
        raise
    finally:
        logging.flush()


async def _serve(
    settings: Settings, ending: Ending, *, jobs: bool, sockets: list[socket], listening: Callable[[], None]
) -> None:
    async with opened(settings) as (rt, app):
        _start_jobs(rt, shared=jobs)
        server = build_server(
            app if rt.tracer is OFF else Traced(app, rt.tracer),
            host=settings.host,
            port=settings.port,
            drain=lambda: _drain(rt),
            listening=listening,
            linger_secs=min(LINGER_SECS, settings.drain_window_ms / 1000),
        )

        def end(reason: str) -> None:
            if server.ending:
                exit_at_once(reason)
            server.end(reason)

        with ending.handled_by(end):
            _log_start(rt, port=settings.port)
            _log_lack_of_keys(rt)
            try:
                await server.serve(sockets)
            except OSError as failure:  # another process listens there since the address was taken
                stop(f"cannot listen on {settings.host}:{settings.port} ({failure.strerror})", ADDRESS)
            await rt.stack.aclose()
    log.info("stopped")


async def _work(settings: Settings, ending: Ending) -> None:
    async with opened(settings) as (rt, _):  # jobs need the application: its tail wakes some, others read its caches
        _start_jobs(rt, shared=True)
        ended = asyncio.Event()
        with ending.handled_by(lambda reason: exit_at_once(reason) if ended.is_set() else ended.set()):
            _log_start(rt)
            await ended.wait()
            rt.draining = True
            await rt.stack.aclose()
    log.info("stopped")


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[tuple[Runtime, Edge]]:
    """Open the application on a database that answers and has this version's schema."""
    tracer = _tracer(settings)
    async with AsyncExitStack() as stack:
        # Last: while anything still makes spans, an export to a collector that is away would not end.
        stack.push_async_callback(asyncio.to_thread, tracer.close)
        rt, app = await _await_database(stack, settings, tracer)
        logging.count_dropped(rt.metrics.log_lines_dropped.inc)
        yield rt, app


def _tracer(settings: Settings) -> Tracer:
    if not settings.otel_enabled:
        return OFF
    from aitp_cp.telemetry.tracing import Tracing  # heavy, and only for those who export traces

    return Tracing(settings)


async def _await_database(stack: AsyncExitStack, settings: Settings, tracer: Tracer) -> tuple[Runtime, Edge]:
    """Open the application; retry for half a minute, because containers start in any order.

    A database that starts may end the first connections again, so nothing that failed half-way is kept.
    """
    for attempt in range(DATABASE_ATTEMPTS + 1):
        try:
            async with AsyncExitStack() as opening:
                await require_fit(settings.dsn)
                rt = await opening.enter_async_context(open_runtime(settings, tracer=tracer))
                app = await open_app(rt)
                stack.push_async_exit(opening.pop_all())
                return rt, app
        except PASSING as failure:
            if attempt == DATABASE_ATTEMPTS:
                raise DatabaseUnavailable from failure
            log.warning("waiting_for_database", reason=sentence(failure))
            await asyncio.sleep(DATABASE_RETRY_SECS)
    raise AssertionError("the last attempt returns or raises")


def _start_jobs(rt: Runtime, *, shared: bool) -> None:
    background = Background(rt, shared=shared)
    background.start()
    rt.stack.push_async_callback(background.stop)


def _log_start(rt: Runtime, **more: int) -> None:
    if rt.settings.cp_aid_seed_hex is None:
        log.warning("identity_not_kept", reason=f"{SEED} is unset", aid=rt.signer.aid)
    environment = "production" if rt.settings.production else "development"
    log.info("starting", aid=rt.signer.aid, version=__version__, environment=environment, **more)


def _log_lack_of_keys(rt: Runtime) -> None:
    if rt.settings.production and not rt.settings.api_keys and not rt.get(KeyCache).exist:
        log.error("no_api_key", effect="every gated route answers 503", remedy="`aitp-cp keys create`, or API_KEYS")


async def _drain(rt: Runtime) -> None:
    """Fail readiness, then end the streams, spread over the window; requests are served meanwhile."""
    rt.draining = True
    window_secs = rt.settings.drain_window_ms / 1000
    await asyncio.gather(end_streams(rt, window_secs), asyncio.sleep(window_secs))
