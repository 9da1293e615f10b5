"""One run of some checks against one deployment, and the tidying after it."""

import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aitp_cp_client.wire.times import iso, now
from aitp_cp_conformance.check import Check
from aitp_cp_conformance.deployment import Deployment
from aitp_cp_conformance.litter import Litter
from aitp_cp_conformance.model import Broken, KeyRefused, Options, Report, Result, Skipped, Unreachable
from aitp_cp_conformance.wire import open_wire

# However impatient the run: what it made does not stay because of a rate limit.
TIDYING_PATIENCE_SECS = 300.0


def _nothing(*_: Any) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Watcher:
    """Told while a run goes on: a check begins, a check has ended, a rate limit makes it wait."""

    begins: Callable[[Check], None] = _nothing
    ended: Callable[[Result], None] = _nothing
    waits: Callable[[str], None] = _nothing


async def run(options: Options, checks: Iterable[Check], watcher: Watcher | None = None) -> Report:
    """Look at every sentence, one after the other; raises `Unreachable` or `KeyRefused` before the first.

    What the checks made is taken away again however the run ends.
    """
    watcher = watcher or Watcher()
    started = iso(now())
    async with _opened(options, watcher) as (cp, litter):
        try:
            results = [await _look(check, cp, watcher) for check in checks]
        finally:
            cp.wire.patience_secs = TIDYING_PATIENCE_SECS
            left = await litter.tidy(cp.admin)
    return Report(options.url, started, cp.run, results, left)


@asynccontextmanager
async def _opened(options: Options, watcher: Watcher) -> AsyncIterator[tuple[Deployment, Litter]]:
    async with open_wire(options.url, options.patience_secs) as wire:
        litter = Litter()
        wire.on_wait, wire.on_answer = watcher.waits, litter.notice
        cp = Deployment(wire, options, f"conformance-{secrets.token_hex(4)}")
        await _knock(cp)
        yield cp, litter


async def _knock(cp: Deployment) -> None:
    """Find out whether somebody is there, and whether the key opens the gate."""
    try:
        without = await cp.public.get("/api/audit", limit=1)
    except Broken as failure:
        raise Unreachable(str(failure)) from failure
    cp.gate_open = without.status == 200
    if cp.gate_open and cp.options.api_key is None:
        cp.admin = cp.public
    if cp.options.api_key is not None:
        answer = await cp.admin.get("/api/audit", limit=1)
        if answer.status in {401, 403, 503}:
            raise KeyRefused(str(answer))


async def _look(check: Check, cp: Deployment, watcher: Watcher) -> Result:
    watcher.begins(check)
    started = time.monotonic()
    outcome, detail = "passed", None
    try:
        await check.body(cp)
    except Skipped as skipped:
        outcome, detail = "skipped", str(skipped)
    except Broken as broken:
        outcome, detail = "failed", str(broken)
    except Exception as surprise:  # an answer so unlike what the contract says that the check stumbled over it
        outcome, detail = "failed", f"an answer has an unexpected shape ({type(surprise).__name__}: {surprise})"
    ms = round((time.monotonic() - started) * 1000)
    result = Result(check.section, check.name, check.sentence, check.extension, outcome, detail, ms)  # type: ignore[arg-type]
    watcher.ended(result)
    return result
