"""Run checks against a deployment, then delete what they created."""

import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aitp_cp_client.wire.times import iso, now
from aitp_cp_conformance.check import Check
from aitp_cp_conformance.cleanup import Cleanup
from aitp_cp_conformance.deployment import Deployment
from aitp_cp_conformance.model import Broken, KeyRefused, Options, Report, Result, Skipped, Unreachable
from aitp_cp_conformance.wire import open_wire

# Separate from --patience: a rate limit must not prevent the cleanup.
CLEANUP_PATIENCE_SECS = 300.0


def _nothing(*_: Any) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Watcher:
    """Callbacks of a run: a check begins, a check has ended, a rate limit makes the run wait."""

    begins: Callable[[Check], None] = _nothing
    ended: Callable[[Result], None] = _nothing
    waits: Callable[[str], None] = _nothing


async def run(options: Options, checks: Iterable[Check], watcher: Watcher | None = None) -> Report:
    """Run the checks in order, then delete what they created, also after an exception.

    Raise `Unreachable` or `KeyRefused` before the first check.
    """
    watcher = watcher or Watcher()
    started = iso(now())
    async with _connected(options, watcher) as (cp, cleanup):
        try:
            results = [await _run_check(check, cp, watcher) for check in checks]
        finally:
            cp.wire.patience_secs = CLEANUP_PATIENCE_SECS
            left = await cleanup.run(cp.admin)
    return Report(options.url, started, cp.run, results, left)


@asynccontextmanager
async def _connected(options: Options, watcher: Watcher) -> AsyncIterator[tuple[Deployment, Cleanup]]:
    async with open_wire(options.url, options.patience_secs) as wire:
        cleanup = Cleanup()
        wire.on_wait, wire.on_answer = watcher.waits, cleanup.record
        cp = Deployment(wire, options, f"conformance-{secrets.token_hex(4)}")
        await _probe(cp)
        yield cp, cleanup


async def _probe(cp: Deployment) -> None:
    """Find out whether the deployment answers and accepts the API key."""
    try:
        without = await cp.public.get("/api/audit", limit=1)
    except Broken as failure:
        raise Unreachable(str(failure)) from failure
    cp.gate_open = without.status == 200
    if cp.gate_open and cp.options.api_key is None:
        cp.admin = cp.public
    if cp.options.api_key is not None:
        response = await cp.admin.get("/api/audit", limit=1)
        if response.status in {401, 403, 503}:
            raise KeyRefused(str(response))


async def _run_check(check: Check, cp: Deployment, watcher: Watcher) -> Result:
    watcher.begins(check)
    started = time.monotonic()
    outcome, detail = "passed", None
    try:
        await check.body(cp)
    except Skipped as skipped:
        outcome, detail = "skipped", str(skipped)
    except Broken as broken:
        outcome, detail = "failed", str(broken)
    except Exception as failure:  # the shape of a response made the check itself fail
        outcome, detail = "failed", f"a response has an unexpected shape ({type(failure).__name__}: {failure})"
    ms = round((time.monotonic() - started) * 1000)
    result = Result(check.section, check.name, check.sentence, check.extension, outcome, detail, ms)  # type: ignore[arg-type]
    watcher.ended(result)
    return result
