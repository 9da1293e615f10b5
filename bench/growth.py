"""The same reads on a longer and longer past: what is flat stays flat."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from rich.console import Console
from rich.table import Table

from bench import console, history
from bench.fleet import KEY
from bench.load import Outcome, drive, request
from bench.reads import COLD_READS, COLD_SECS
from bench.report import markdown, save
from bench.servers import Running, serving
from bench.writes import enrol

SIZES = (10_000, 1_000_000, 5_000_000)
SECONDS = 1.5
CONNECTIONS = 2
P50_GROWTH, P99_GROWTH = 1.5, 3.0
LIMITS = f"growth of p50 / p99 (≤ {P50_GROWTH:g} / {P99_GROWTH:g})"


@dataclass(frozen=True)
class Measured:
    """p50 and p99 of one endpoint, by size."""

    path: str
    by_size: dict[int, tuple[float, float]]

    @property
    def growth(self) -> tuple[float, float]:
        first, last = self.by_size[min(self.by_size)], self.by_size[max(self.by_size)]
        return last[0] / first[0], last[1] / first[1]

    def cells(self) -> tuple[str, ...]:
        p50, p99 = self.growth
        sizes = [f"{one:.2f} / {other:.2f}" for one, other in self.by_size.values()]
        flat = p50 <= P50_GROWTH and p99 <= P99_GROWTH
        return (f"`{self.path}`", *sizes, f"{p50:.2f} / {p99:.2f}", "met" if flat else "missed")


# What is read, of an agent that is old enough; where the smallest past has no full page to give, of fewer rows.
PATHS = (
    "/api/events/history",
    "/api/events/history?type=handshake.complete",
    "/api/events/history?aid={aid}",
    "/api/events/history?sessionId=session-500",
    "/api/events/history?runId=run-5",
    "/api/events/history?order=asc&after=5000",
    "/api/sessions",
    "/api/sessions?status=failed&limit=50",
    "/api/sessions?aid={aid}",
    "/api/sessions?runId=run-5",
    "/api/sessions/session-500",
    "/api/tcts",
    "/api/tcts?issuer={aid}",
    "/api/tcts?subject={aid}",
    "/api/tcts?active=true",
    "/api/tcts?sessionId=session-500",
    "/api/delegations",
    "/api/delegations?delegator={aid}&limit=10",
    "/api/webhooks/{webhook}/deliveries",
    "/api/revocation/entries",
    "/api/audit",
    "/api/registry/agents",
    "/api/registry/agents?capability=bench.rare",
    "/api/dashboard/overview?range=1h",
    "/api/dashboard/agents",
    "/console/?range=1h",
    "/console/agents",
    "/console/agents/{aid}",
    "/console/events",
    "/console/events?aid={aid}",
    "/console/sessions",
    "/console/sessions?status=failed&limit=50",
    "/console/tokens",
    "/console/tokens?issuer={aid}",
    "/console/graph?aid={aid}",
    "/console/revocations",
    "/console/containments",
    "/console/webhooks/{webhook}",
    "/console/audit",
)
# Responses are shared for a second, so each read waits until the one before it has expired.
COLD = ("/api/dashboard/", "/console/?")


async def measure(dsn: str, folder: Path, sizes: Sequence[int] = SIZES) -> list[Measured]:
    """Load up to each size in turn and read."""
    log = folder / "server.log"
    with serving(dsn, log) as server:
        aids, _ = await enrol(server)
    await history.revoke(dsn, 1000)
    names = {"aid": quote(min(aids), safe=""), "webhook": history.WEBHOOK}
    measured = [Measured(path, {}) for path in PATHS]
    for first, last in itertools.pairwise((0, *sizes)):
        await history.load(dsn, first, last)
        with serving(dsn, log, RETENTION_ENABLED="false", REGISTRY_CACHE_MIB="0", **console.SETTINGS) as server:
            credentials = {**KEY, "cookie": await console.sign_in(server)}
            for one in measured:
                outcome = await _read(server, one.path.format(**names), credentials)
                assert not outcome.refused, one.path
                one.by_size[last] = outcome.percentile(0.50), outcome.percentile(0.99)
    return measured


async def _read(server: Running, path: str, credentials: dict[str, str]) -> Outcome:
    requests = _requests(path, credentials)
    await drive(server.port, requests, connections=CONNECTIONS, seconds=0.3)
    if not path.startswith(COLD):
        return await drive(server.port, requests, connections=CONNECTIONS, seconds=SECONDS)
    outcome = Outcome()
    for asked in itertools.islice(requests, COLD_READS):
        await asyncio.sleep(COLD_SECS)
        outcome.add(await drive(server.port, iter([asked]), connections=1, seconds=SECONDS))
    return outcome


def _requests(path: str, credentials: dict[str, str]) -> Iterator[bytes]:
    """Never the same target twice, so that no answer comes from memory."""
    mark = "&" if "?" in path else "?"
    return (request("GET", f"{path}{mark}again={number}", **credentials) for number in itertools.count())


def header(measured: list[Measured]) -> tuple[str, ...]:
    return ("endpoint", *(f"p50 / p99 ms at {size:,}" for size in measured[0].by_size), LIMITS, "")


def show(measured: list[Measured]) -> None:
    table = Table(*header(measured))
    for one in measured:
        table.add_row(*one.cells())
    Console(width=170).print(table)


def store(measured: list[Measured]) -> Path:
    return save("-growth", {"rows": [{"path": one.path, "ms": one.by_size} for one in measured]})


def page(measured: list[Measured]) -> str:
    return markdown(header(measured), [one.cells() for one in measured])
