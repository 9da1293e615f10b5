"""GET /api/dashboard/overview: every figure is of its range, and of now."""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from aitp_cp.clock import now
from tests.ingest.support import report
from tests.support import rows
from tests.support.agents import manifest, new_agent
from tests.support.app import App
from tests.support.enrolment import registered

pytestmark = pytest.mark.anyio


def ago(**span: float) -> str:
    return (now() - timedelta(**span)).isoformat()


def handshake(type: str = "complete", session: str = "", boundary: str | None = None, **more: Any) -> dict[str, Any]:
    """A report about a session of its own."""
    return {"type": f"handshake.{type}", "session_id": session or str(uuid4()), "boundary": boundary, **more}


def invoked(capability: Any = "cap.read", **more: Any) -> dict[str, Any]:
    return {"type": "capability.invoked", "payload": {"capability": capability}, **more}


async def overview(app: App, query: str = "") -> dict[str, Any]:
    response = await app.get(f"/api/dashboard/overview{query}")
    assert response.status_code == 200, response.text
    shown: dict[str, Any] = response.json()
    return shown


async def kpis(app: App, query: str = "") -> dict[str, int]:
    figures: dict[str, int] = (await overview(app, query))["kpis"]
    return figures


async def chart(app: App, name: str, query: str = "") -> dict[str, int]:
    """One chart as `{label: count}`."""
    return dict(tuple(entry.values()) for entry in (await overview(app, query))["charts"][name])


async def test_with_nothing_to_show_every_figure_is_there(app: App) -> None:
    shown = await overview(app)
    over_time = shown["charts"].pop("handshakesOverTime")
    assert shown == {
        "range": "24h",
        "kpis": dict.fromkeys(
            (
                "agentsRegistered",
                "handshakesTotal",
                "handshakesInRange",
                "handshakesSuccessInRange",
                "capabilityInvocationsInRange",
                "activeSessions",
                "pendingWebhookDeliveries",
            ),
            0,
        ),
        "recentSessions": [],
        "charts": {"handshakesByBoundary": [], "topCapabilities": []},
    }
    assert {entry["count"] for entry in over_time} == {0}


@pytest.mark.parametrize(
    ("query", "name", "width", "buckets"),
    [
        ("", "24h", timedelta(hours=1), 25),
        ("?range=1h", "1h", timedelta(minutes=1), 61),
        ("?range=24h", "24h", timedelta(hours=1), 25),
        ("?range=7d", "7d", timedelta(days=1), 8),
        ("?range=30d", "30d", timedelta(days=1), 31),
        ("?window=7d", "7d", timedelta(days=1), 8),
        ("?range=1h&window=7d", "1h", timedelta(minutes=1), 61),
        ("?range=7D", "24h", timedelta(hours=1), 25),
        ("?range=%27%3B+DROP", "24h", timedelta(hours=1), 25),
    ],
)
async def test_each_bucket_that_the_range_touches_is_charted(
    app: App, query: str, name: str, width: timedelta, buckets: int
) -> None:
    before = app.clock()
    shown = await overview(app, query)
    assert shown["range"] == name
    starts = [entry["bucket"] for entry in shown["charts"]["handshakesOverTime"]]
    first = datetime.fromisoformat(starts[0])
    assert starts == [f"{(first + n * width):%Y-%m-%dT%H:%M}:00.000Z" for n in range(buckets)]
    last = datetime.fromisoformat(starts[-1])
    assert last <= app.clock()
    assert before < last + width


async def test_charts_and_figures_honour_the_range(app: App) -> None:
    await report(app, handshake(boundary="lately"), handshake(boundary="early", ts=ago(hours=3)), invoked("cap.now"))
    await report(app, invoked("cap.early", ts=ago(hours=3)))
    for query, boundaries, capabilities in (
        ("?range=1h", {"lately": 1}, {"cap.now": 1}),
        ("?range=24h", {"early": 1, "lately": 1}, {"cap.early": 1, "cap.now": 1}),
    ):
        figures = await kpis(app, query)
        assert figures["handshakesInRange"] == figures["handshakesSuccessInRange"] == len(boundaries)
        assert figures["capabilityInvocationsInRange"] == len(capabilities)
        assert figures["handshakesTotal"] == 2
        assert len((await overview(app, query))["recentSessions"]) == len(boundaries)
        assert await chart(app, "handshakesByBoundary", query) == boundaries
        assert await chart(app, "topCapabilities", query) == capabilities
        assert sum((await chart(app, "handshakesOverTime", query)).values()) == len(boundaries)


async def test_a_handshake_is_charted_when_it_took_place_and_never_in_the_future(app: App) -> None:
    await report(app, handshake("started", ts=ago(hours=5)), handshake("failed", ts=ago(hours=-5)))
    over_time = (await overview(app))["charts"]["handshakesOverTime"]
    counted = [place for place, entry in enumerate(over_time) if entry["count"]]
    assert sum(entry["count"] for entry in over_time) == 2
    assert counted in ([19, 24], [18, 23])  # the hour may have turned since


async def test_a_session_under_way_is_active_however_long_ago_it_began(app: App) -> None:
    await report(app, handshake("started", "s-1"), handshake("started", "s-2"))
    app.clock.ahead += timedelta(days=2)
    figures = await kpis(app, "?range=1h")
    assert (figures["activeSessions"], figures["handshakesInRange"], figures["handshakesTotal"]) == (2, 0, 2)
    await report(app, handshake("failed", "s-1"), handshake("complete", "s-2"))
    figures = await kpis(app, "?range=1h")
    assert (figures["activeSessions"], figures["handshakesTotal"]) == (0, 2)


async def test_boundaries_come_by_number_and_none_is_called_unknown(app: App) -> None:
    await report(app, handshake(), handshake(), handshake(boundary="cross-org"), handshake(boundary="a"))
    shown = (await overview(app))["charts"]["handshakesByBoundary"]
    assert shown == [
        {"boundary": "unknown", "count": 2},
        {"boundary": "a", "count": 1},
        {"boundary": "cross-org", "count": 1},
    ]


async def test_a_capability_is_found_wherever_reporters_name_it(app: App) -> None:
    await report(
        app,
        {"type": "capability.invoked", "capability": "flat"},
        invoked("structured"),
        invoked({"name": "described", "version": 1}),
        {"type": "capability.invoked", "payload": {"capability_name": "snake"}},
        {"type": "capability.invoked", "payload": {"capabilityName": "camel"}},
        {"type": "capability.invoked", "payload": {"ms": 3}, "grants": ["granted", "other"]},
        {"type": "capability.invoked", "payload": ["nameless"]},
        {"type": "capability.denied", "payload": {"capability": "denied"}},
    )
    named = ["camel", "described", "flat", "granted", "snake", "structured"]
    assert await chart(app, "topCapabilities") == dict.fromkeys(named, 1)
    assert (await kpis(app))["capabilityInvocationsInRange"] == len(named) + 1


async def test_the_ten_most_used_capabilities_and_twenty_newest_sessions_are_shown(app: App) -> None:
    await report(app, *(invoked(f"cap.{n:02}") for n in range(12) for _ in range(n + 1)))
    await report(app, *(handshake(session=f"s-{n:02}") for n in range(22)))
    await report(app, handshake(session="newest"))
    shown = await overview(app)
    assert shown["charts"]["topCapabilities"] == [
        {"capability": f"cap.{n:02}", "count": n + 1} for n in range(11, 1, -1)
    ]
    assert len(shown["recentSessions"]) == 20
    assert shown["recentSessions"][0] == (await app.get("/api/sessions?limit=1")).json()["sessions"][0]
    assert shown["recentSessions"][0]["sessionId"] == "newest"


async def test_agents_count_while_they_are_discovered_and_deliveries_while_they_wait(app: App) -> None:
    kept, gone = new_agent(), new_agent()
    for agent in (kept, gone):
        await registered(app, manifest(agent, ttl_secs=3600))
    await app.delete(f"/api/registry/agents/{gone.aid}")
    assert (await kpis(app))["agentsRegistered"] == 1
    app.clock.ahead += timedelta(hours=2)
    await rows.subscribe(app)
    await report(app, handshake(), handshake("started"))
    await app.enqueue()
    figures = await kpis(app)
    assert (figures["agentsRegistered"], figures["pendingWebhookDeliveries"]) == (0, 1)


async def test_no_answer_hides_what_this_process_has_committed(app: App) -> None:
    for number in range(1, 11):
        await report(app, handshake(), invoked())
        figures = await kpis(app)
        assert (figures["handshakesTotal"], figures["capabilityInvocationsInRange"]) == (number, number)
