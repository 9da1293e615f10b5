"""What reporters choose never takes a place from what operators rely on (row A13)."""

import asyncio
import re

import pytest

from aitp_cp.ops.figures import MAX_LABELS
from aitp_cp.ops.jobs import refresh
from aitp_cp.protocol.vocabulary import DELIVERABLE, VOCABULARY, Target, types_of
from aitp_cp.sessions.projection import STATUS_OF
from aitp_cp.tcts.projection import DELEGATING, ISSUING, REVOKING
from tests.support.agents import manifest, new_agent
from tests.support.app import App, running_app
from tests.support.enrolment import registered

pytestmark = pytest.mark.anyio


async def labels(app: App) -> dict[str, float]:
    scrape = (await app.http.get("/api/metrics")).text
    found = re.findall(r'^aitp_control_plane_audit_events\{type="([^"]*)"\} (\S+)$', scrape, re.MULTILINE)
    return {name: float(count) for name, count in found}


async def test_known_types_always_have_a_label(database_url: str) -> None:
    """Row A13: 400 reported types before a restart; `agent.registered` and the like are counted by name after it."""
    async with running_app(database_url) as app:
        events = [{"type": f"made.up.{number}"} for number in range(400)] + [{"type": "frequent"}] * 3
        assert (await app.post("/api/events", events)).status_code == 200
    async with running_app(database_url) as app:
        await refresh(app.rt)
        await registered(app, manifest(new_agent()))
        reported = [{"type": name} for name in ("handshake.started", "tct.revoked", "delegation.issued")]
        await app.post("/api/events", [*reported, {"type": "made.up.late"}])
        reported_here = {"agent.registered", "handshake.started", "tct.revoked", "delegation.issued"}
        async with asyncio.timeout(10):
            while sum((shown := await labels(app)).values()) < 403 + 5:
                await asyncio.sleep(0.02)
        assert {name: shown.get(name) for name in reported_here} == dict.fromkeys(reported_here, 1)
        assert len(shown) <= MAX_LABELS + 1
        assert shown["frequent"] == 3  # the frequent ones of the rest are named, not the first ones
        assert "made.up.late" not in shown


def test_every_type_with_a_meaning_is_known() -> None:
    """Row A13: the types that are delivered and those that projections read."""
    assert types_of(Target.SESSIONS) == set(STATUS_OF)
    assert types_of(Target.TOKENS) == ISSUING | set(REVOKING) | {DELEGATING}
    assert VOCABULARY.keys() >= DELIVERABLE
