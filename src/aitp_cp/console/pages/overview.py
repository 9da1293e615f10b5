"""The first screen: what is wrong, since when, and how things go."""

import time
from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit import store as audit
from aitp_cp.audit.model import AuditEntry, AuditFilter
from aitp_cp.console.page import Region, region, render, screen, wants
from aitp_cp.console.parts.chart import Bar
from aitp_cp.console.parts.link import link
from aitp_cp.dashboard.first_screen import Bucket, FirstScreen, first_screen
from aitp_cp.dashboard.model import RANGES, OverviewQuery
from aitp_cp.dashboard.service import chosen_range
from aitp_cp.db.keyset import Window
from aitp_cp.events.tail import Tail
from aitp_cp.ops import store as ops
from aitp_cp.ops.attention import attention
from aitp_cp.ops.figures import Figures
from aitp_cp.ops.model import Attention
from aitp_cp.protocol.scopes import Scope
from aitp_cp.revocation.published import PublishedList
from aitp_cp.runtime import Runtime
from aitp_cp.web.context import context_of
from aitp_cp.web.query import read_query

RECENT = 10
TAIL_SOON_SECS, CLOCK_SOON_SECS = 2.0, 2.0
MINUTE_BUCKETS = "%H:%M"
DAY_BUCKETS = "%Y-%m-%d"


class Fact(msgspec.Struct, frozen=True):
    """One word of the status line, with its level: `good`, `soon` or `bad`."""

    text: str
    level: str


class OverviewView(msgspec.Struct, frozen=True):
    range: str
    attention: Region[Attention]
    facts: Region[list[Fact]]
    screen: Region[FirstScreen]
    bars: list[Bar]
    success: str
    happened: Region[list[AuditEntry]]
    ranges: Sequence[str] = tuple(RANGES)


async def overview(rt: Runtime, request: Request) -> Response:
    span = chosen_range(read_query(request, OverviewQuery).range)
    figures: Region[FirstScreen] = Region(None)
    if wants(request, "figures"):
        figures = await region(first_screen(rt, span))
    happened: Region[list[AuditEntry]] = Region(None)
    if Scope.AUDIT_READ in context_of(request).scopes and wants(request, "happened"):
        happened = await region(_happened(rt))
    days = span.bucket.days >= 1
    view = OverviewView(
        range=span.name,
        attention=await region(attention(rt)) if wants(request, "attention") else Region(None),
        facts=await region(_facts(rt)) if wants(request, "facts") else Region(None),
        screen=figures,
        bars=[_bar(bucket, days=days) for bucket in figures.value.handshakes] if figures.value else [],
        success=_success(figures.value),
        happened=happened,
    )
    return await render(rt, request, "overview.html", view, title="Overview")


def _success(figures: FirstScreen | None) -> str:
    share = None if figures is None else figures.success
    return "none ended" if share is None else f"{share * 100:.1f} % complete"


def _bar(bucket: Bucket, *, days: bool) -> Bar:
    label = bucket.since.strftime(DAY_BUCKETS if days else MINUTE_BUCKETS)
    url = link("/sessions", since=bucket.since, until=bucket.until)
    return Bar(label, bucket.total, bucket.failed, url)


async def _facts(rt: Runtime) -> list[Fact]:
    """Return the status line; the database's part is measured now."""
    started = time.perf_counter()
    async with rt.db.connection() as conn:
        replicas = await ops.replicas(conn)
    ms = (time.perf_counter() - started) * 1000
    behind, standing = rt.get(Tail).behind(), rt.get(PublishedList).standing()
    live = sum(replica.live for replica in replicas)
    signed = Fact(f"list signed {standing.age_secs:.0f} s ago", "good")
    facts = [
        Fact(f"database {ms:.0f} ms", "good" if ms < 100 else "soon"),
        Fact(f"log {behind:.1f} s behind", "good" if behind < TAIL_SOON_SECS else "bad"),
        signed if standing.exists else Fact("no signed list", "bad"),
        Fact(f"{live} of {len(replicas)} replicas", "good" if live == len(replicas) else "soon"),
    ]
    offset = rt.get(Figures).clock_offset_secs
    if offset is not None:
        facts.append(Fact(f"clock {round(offset * 1000):+d} ms", "good" if abs(offset) < CLOCK_SOON_SECS else "bad"))
    return facts


async def _happened(rt: Runtime) -> list[AuditEntry]:
    async with rt.db.connection() as conn:
        return (await audit.page(conn, AuditFilter(), Window(RECENT))).entries


PAGES = (screen("/", overview, scope=Scope.DASHBOARD_READ, nav="Overview", bulk=True, query=OverviewQuery),)
