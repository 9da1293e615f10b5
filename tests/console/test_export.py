"""Lists of the console as files."""

import csv
import io
import json

import pytest

from aitp_cp.console import export
from tests.support.app import App

pytestmark = pytest.mark.anyio


async def exports(app: App) -> list[dict[str, object]]:
    rows = (await app.http.get("/api/audit")).json()["entries"]
    return [row["details"] for row in rows if row["action"] == "console.export"]


async def test_events_as_a_table_and_as_lines(app: App) -> None:
    await app.http.post("/api/events", json=[{"type": "=cmd()", "run_id": "r"}, {"type": "plain", "run_id": "r"}])
    response = await app.http.get("/console/events/export?runId=r&format=csv")
    assert response.headers["content-disposition"].startswith('attachment; filename="events-')
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert sorted(row["type"] for row in rows) == ["'=cmd()", "plain"]
    lines = (await app.http.get("/console/events/export?runId=r&format=jsonl")).text.splitlines()
    assert sorted(json.loads(line)["type"] for line in lines) == ["=cmd()", "plain"]
    assert [(row["list"], row["format"], row["runId"], row["truncated"]) for row in await exports(app)] == [
        ("events", "jsonl", "r", False),
        ("events", "csv", "r", False),
    ]
    assert (await app.http.get("/console/events/export?format=xls")).status_code == 400


async def test_sessions_and_what_is_left_out(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "MAX_ROWS", 2)
    await app.http.post("/api/events", json=[{"type": "handshake.started", "session_id": f"s{n}"} for n in range(3)])
    lines = (await app.http.get("/console/sessions/export?format=csv")).text.splitlines()
    assert len(lines) == 4
    assert "truncated after 2 rows" in lines[-1]
    assert (await exports(app))[0]["truncated"] is True
