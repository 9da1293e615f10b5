"""What only the control plane says, nobody can report (rows 29, A6)."""

import re
from pathlib import Path
from typing import Any

import pytest

from aitp_cp import events
from aitp_cp.protocol.vocabulary import RESERVED_TYPES, VOCABULARY, Emitter, is_reserved
from tests.support.app import App, running_app

pytestmark = pytest.mark.anyio

SOURCE = Path(events.__file__).parents[1]
ITEMS: list[tuple[dict[str, Any], str]] = [
    ({"source": "cp"}, "source"),
    ({"source": "cp", "type": "agent.deregistered", "aid_a": "a"}, "type"),
    *(({"type": kind}, "type") for kind in sorted(RESERVED_TYPES)),
    *(({"type": kind}, "type") for kind in ("apikey.created", "apikey.rotated", "apikey.revoked", "apikey.")),
]
# Consumers compare exactly, so these are names like any other.
OTHERS: list[dict[str, Any]] = [
    {"source": "CP", "type": "Agent.Deregistered"},
    {"source": " cp", "type": "agent.deregistered "},
    {"source": "cp\u200b", "type": "apikey"},
    {"type": "tct.revoked", "payload": {"source": "cp", "type": "agent.deregistered"}},
]


async def test_the_control_planes_own_source_and_types_are_reserved(database_url: str) -> None:
    """Rows 29 and A6: `source: "cp"` and `agent.deregistered` could be reported."""
    async with running_app(database_url) as app:
        response = await app.post("/api/events", [item for item, _ in ITEMS] + OTHERS)
        assert response.status_code == 200
        told = response.json()
        assert (told["inserted"], told["dropped"]) == (len(OTHERS), len(ITEMS))
        assert told["errors"] == [
            {"index": index, "field": field, "reason": "reserved"} for index, (_, field) in enumerate(ITEMS)
        ]
        assert await stored(app) == {(item.get("type", "unknown"), item.get("source", "playground")) for item in OTHERS}


async def stored(app: App) -> set[tuple[str, str]]:
    found = (await app.get("/api/events/history")).json()["events"]
    return {(event["type"], event["source"]) for event in found}


def test_whatever_the_control_plane_appends_is_reserved_or_a_reported_type_too() -> None:
    """Row 29: a type that the control plane emits, and that is not reserved, is one that agents report as well."""
    rooms = {"registry", "revocation", "webhooks", "deliveries", "truststore", "containment", "keys", "accounts"}
    files = [file.read_text() for file in SOURCE.rglob("*.py") if file.parent.name in rooms]
    literals = {name for text in files for name in re.findall(r'(?:agent_event\(|type=)\s*"([a-z]+\.[a-z.]+)"', text)}
    assert {"agent.registered", "agent.expired", "agent.deregistered"} <= literals
    assert literals <= {name for name, kind in VOCABULARY.items() if kind.emitter is not Emitter.REPORTERS}
    assert {name for name, kind in VOCABULARY.items() if kind.emitter is Emitter.BOTH} == {"tct.revoked"}
    assert all(is_reserved(name) for name, kind in VOCABULARY.items() if kind.emitter is Emitter.CONTROL_PLANE)
