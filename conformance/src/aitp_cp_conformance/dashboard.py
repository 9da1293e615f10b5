"""Contract, section 10: the dashboard."""

import itertools
from datetime import timedelta
from typing import Any

from aitp_cp_conformance import expect
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment, event
from aitp_cp_conformance.registered import main_agent
from aitp_cp_conformance.reported import session

OVERVIEW = "/api/dashboard/overview"
KPIS = (
    "agentsRegistered",
    "handshakesTotal",
    "handshakesInRange",
    "handshakesSuccessInRange",
    "capabilityInvocationsInRange",
    "activeSessions",
    "pendingWebhookDeliveries",
)
CHARTS = {
    "handshakesByBoundary": {"boundary", "count"},
    "handshakesOverTime": {"bucket", "count"},
    "topCapabilities": {"capability", "count"},
}
ACTIVITY = (
    "aid",
    "displayName",
    "status",
    "registeredAt",
    "lastSeenAt",
    "handshakesAsInitiator",
    "handshakesAsResponder",
    "capabilityInvocations",
)
BUCKETS = {"1h": timedelta(minutes=1), "24h": timedelta(hours=1), "7d": timedelta(days=1), "30d": timedelta(days=1)}
SPANS = {"1h": 60, "24h": 24, "7d": 7, "30d": 30}


async def overview(cp: Deployment, **query: str) -> dict[str, Any]:
    await cp.shared(session)
    body: dict[str, Any] = (await cp.admin.get(OVERVIEW, **query)).ok()
    expect.members(body, ("range", "kpis", "recentSessions", "charts"), "the overview")
    return body


@check("10", "the overview has its range, seven figures, recent sessions and three charts")
async def overview_members(cp: Deployment) -> None:
    body = await overview(cp)
    expect.members(body["kpis"], KPIS, "the figures")
    for name in KPIS:
        expect.that(isinstance(body["kpis"][name], int) and body["kpis"][name] >= 0, f"{name} is no count")
    expect.members(body["charts"], CHARTS, "the charts")
    for name, members in CHARTS.items():
        expect.that(isinstance(body["charts"][name], list), f"{name} is no list")
        for entry in body["charts"][name]:
            expect.equal(set(entry), members, f"the members of an entry of {name}")


@check("10", "`range` is 1h, 24h, 7d or 30d, with the alias `window`; anything else is 24h")
async def overview_range(cp: Deployment) -> None:
    for query, expected in (
        *(({"range": name}, name) for name in BUCKETS),
        ({"window": "7d"}, "7d"),
        ({}, "24h"),
        ({"range": "2y"}, "24h"),
    ):
        expect.equal((await overview(cp, **query))["range"], expected, f"the range with {query}")


@check("10", "buckets are minutes, hours or days, zero-filled ISO strings")
async def overview_buckets(cp: Deployment) -> None:
    for name, width in BUCKETS.items():
        chart = (await overview(cp, range=name))["charts"]["handshakesOverTime"]
        times = [expect.moment(entry["bucket"], "a bucket") for entry in chart]
        expect.that(SPANS[name] <= len(times) <= SPANS[name] + 1, f"{name} has {len(times)} buckets")
        steps = {later - earlier for earlier, later in itertools.pairwise(times)}
        expect.equal(steps, {width}, f"the widths of the buckets of {name}")


@check("10", "a handshake counts in the figures and charts")
async def overview_counts(cp: Deployment) -> None:
    before = await overview(cp, range="1h")
    boundary = cp.name("b")[-32:]
    await cp.report(event("handshake.complete", session_id=cp.name("session"), payload={"boundary": boundary}))
    after = await overview(cp, range="1h")
    for name in ("handshakesTotal", "handshakesInRange", "handshakesSuccessInRange"):
        expect.that(after["kpis"][name] > before["kpis"][name], f"{name} did not grow")
    counted = {entry["boundary"]: entry["count"] for entry in after["charts"]["handshakesByBoundary"]}
    expect.equal(counted.get(boundary), 1, "the count of its boundary")


@check("10", 'a handshake without a boundary counts as "unknown"')
async def overview_unknown(cp: Deployment) -> None:
    await cp.report(event("handshake.complete", session_id=cp.name("session")))
    chart = (await overview(cp, range="1h"))["charts"]["handshakesByBoundary"]
    expect.that("unknown" in {entry["boundary"] for entry in chart}, "no boundary `unknown` in the chart")
    expect.that(None not in {entry["boundary"] for entry in chart}, "a boundary is null in the chart")


@check("10", "recent sessions are at most 20, newest first")
async def overview_recent(cp: Deployment) -> None:
    await cp.report(*(event("handshake.started", session_id=cp.name("session")) for _ in range(22)))
    rows = (await overview(cp, range="1h"))["recentSessions"]
    expect.equal(len(rows), 20, "the number of recent sessions")
    created = [row["createdAt"] for row in rows]
    expect.equal(created, sorted(created, reverse=True), "their order")


@check("10", "`GET /api/dashboard/agents` shows every agent with what it did")
async def activities(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    other = cp.name("peer")
    await cp.report(
        event("handshake.complete", session_id=cp.name("session"), aid_a=agent.aid, aid_b=other),
        event("handshake.complete", session_id=cp.name("session"), aid_a=other, aid_b=agent.aid),
    )

    async def mine() -> dict[str, Any] | None:
        rows = expect.rows(await cp.admin.get("/api/dashboard/agents"), "agents")
        return next((row for row in rows if row["aid"] == agent.aid), None)

    row = await cp.eventually(mine, "an agent on the dashboard")
    expect.members(row, ACTIVITY, "an agent on the dashboard")
    expect.equal(row["displayName"], agent.name, "displayName")
    shown = row["handshakesAsInitiator"], row["handshakesAsResponder"]
    expect.that(min(shown) >= 1, f"handshakes as initiator and responder are {shown}")
