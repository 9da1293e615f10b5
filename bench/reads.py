"""Reads over HTTP, each beside a bare ASGI application that gives the same bytes."""

import asyncio
import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from bench.fleet import KEY, RARE_CAPABILITY
from bench.load import Outcome, drive, request
from bench.report import NOTHING, Row, Target, http_row
from bench.servers import Running, bare

TURNS, SECONDS = 3, 0.7
WARMING_SECS = 0.3
COLD_ASKS = 5
COLD_SECS = 1.1


@dataclass(frozen=True)
class Read:
    """One row of the table: these paths in turn, over so many connections."""

    what: str
    paths: Sequence[str]
    target: Target = NOTHING
    connections: int = 32
    keyed: bool = False

    def requests(self) -> Iterator[bytes]:
        return itertools.cycle([request("GET", path, **(KEY if self.keyed else {})) for path in self.paths])

    async def run(self, server: Running, log: Path) -> Row:
        """In turns with its limit: what else the machine does for a moment is not one's own."""
        outcome, limit, spent = Outcome(), Outcome(), 0.0
        with bare((await self._drive(server, WARMING_SECS)).body, log) as other:
            await self._drive(other, WARMING_SECS)
            for _ in range(TURNS):
                before = server.cpu_secs()
                outcome.add(await self._drive(server, SECONDS))
                spent += server.cpu_secs() - before
                limit.add(await self._drive(other, SECONDS))
        return replace(http_row(self.what, outcome, self.target, spent), limit=limit.rate)

    async def _drive(self, server: Running, seconds: float) -> Outcome:
        return await drive(server.port, self.requests(), connections=self.connections, seconds=seconds)


async def cold(server: Running) -> Row:
    """The overview when nobody has asked for more than a second."""
    asked = request("GET", "/api/dashboard/overview", **KEY)
    millis = []
    for _ in range(COLD_ASKS):
        await asyncio.sleep(COLD_SECS)
        millis.append((await drive(server.port, iter([asked]), connections=1, seconds=60)).percentile(1))
    return Row("`GET /api/dashboard/overview`, cold, 1 M events", "ms", statistics.median(millis), Target(at_most=100))


def reads(aids: Sequence[str]) -> tuple[Read, ...]:
    one = f"/api/registry/agents/{quote(aids[0], safe='')}"
    everyone = [f"/api/registry/agents/{quote(aid, safe='')}" for aid in aids]
    page = {"target": Target(rate=1500), "connections": 8, "keyed": True}
    return (
        Read(
            "`GET /api/registry/agents?capability=`, 5 of 1,000",
            [f"/api/registry/agents?capability={RARE_CAPABILITY}"],
            Target(rate=10_000, p99_ms=15),
        ),
        Read("`GET /api/registry/agents/{aid}`", [one], Target(rate=10_000)),
        Read("the same, each of 1,000 agents in turn", everyone),
        Read("`GET /api/registry/agents/{aid}/manifest`", [one + "/manifest"], Target(rate=10_000)),
        Read("`GET /.well-known/aitp-manifest`", ["/.well-known/aitp-manifest"], Target(rate=15_000, share=0.70)),
        Read(
            "`GET /.well-known/aitp-revocation-list`, 1,000 entries",
            ["/.well-known/aitp-revocation-list"],
            Target(rate=15_000, share=0.70),
        ),
        Read("`GET /api/events/history`, 100 rows", ["/api/events/history?limit=100"], **page),
        Read("`GET /api/tcts`, 100 rows", ["/api/tcts?limit=100"], **page),
        Read("`GET /api/sessions`, 100 rows", ["/api/sessions?limit=100"], **page),
        Read("`GET /api/metrics`", ["/api/metrics"], Target(rate=3000), connections=8),
        Read("`GET /api/health`", ["/api/health"], Target(rate=3000)),
        Read(
            "`GET /api/dashboard/overview`, 1 M events",
            ["/api/dashboard/overview"],
            Target(rate=500),
            connections=8,
            keyed=True,
        ),
    )
