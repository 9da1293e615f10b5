"""One serving process from boot to drain (contract, section 16)."""

import asyncio

import structlog
import uvloop

from aitp_cp import __version__
from aitp_cp.app import open_app
from aitp_cp.cli.console import DATABASE, stop
from aitp_cp.db.migrations import classify
from aitp_cp.db.schema import current_revision
from aitp_cp.errors import DatabaseUnavailable
from aitp_cp.events.stream import end_streams
from aitp_cp.runtime import Runtime, open_runtime
from aitp_cp.settings import Settings, findings
from aitp_cp.telemetry import logging
from aitp_cp.web.server import build_server
from aitp_cp.worker import build_runner

log = structlog.get_logger("aitp_cp.process")

DATABASE_PATIENCE_SECS = 30
DATABASE_RETRY_SECS = 1.0


def run(settings: Settings, *, jobs: bool) -> None:
    """Serve until told to stop; raises `typer.Exit` with the reason's code when it cannot start."""
    logging.configure(settings.log_level, json=settings.production)
    for finding in findings(settings):
        log.warning(finding.sentence, variable=finding.variable)
    try:
        uvloop.run(_serve(settings, jobs=jobs))
    except DatabaseUnavailable:
        stop("the database cannot be reached; see DATABASE_URL and run `aitp-cp check`", DATABASE)


async def _serve(settings: Settings, *, jobs: bool) -> None:
    await _await_database(settings)
    async with open_runtime(settings) as rt:
        await _require_head(rt)
        app = await open_app(rt)
        runner = build_runner(rt, shared=jobs)
        runner.start()
        rt.stack.push_async_callback(runner.stop)
        server = build_server(app, host=settings.host, port=settings.port, drain=lambda: _drain(rt))
        environment = "production" if settings.production else "development"
        log.info("starting", aid=rt.signer.aid, version=__version__, environment=environment, port=settings.port)
        await server.serve()
    log.info("stopped")


async def _await_database(settings: Settings) -> None:
    """Containers start in any order: wait a while for the database before giving up."""
    for _ in range(DATABASE_PATIENCE_SECS):
        try:
            async with open_runtime(settings):
                return
        except DatabaseUnavailable:
            log.warning("waiting for the database")
            await asyncio.sleep(DATABASE_RETRY_SECS)


async def _require_head(rt: Runtime) -> None:
    async with rt.db.connection() as conn:
        state = classify(await current_revision(conn))
    if state == "behind":
        stop("the database schema is behind: run `aitp-cp migrate`, or start with `serve --migrate`", DATABASE)
    if state == "ahead":
        stop("the database schema is newer than this version: deploy the version that migrated it", DATABASE)


async def _drain(rt: Runtime) -> None:
    """Readiness first; requests go on being served while the streams end, spread over the window."""
    rt.draining = True
    window_secs = rt.settings.drain_window_ms / 1000
    await asyncio.gather(end_streams(rt, window_secs), asyncio.sleep(window_secs))
