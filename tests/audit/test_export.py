"""The admin audit as a file: three formats, no formula, and a row for each export."""

import csv
import io
import json

import pytest

from aitp_cp.audit import export
from aitp_cp.web.csv import cell
from tests.support.app import running_app
from tests.support.enrolment import audit_of
from tests.support.rows import execute

pytestmark = pytest.mark.anyio

EXPORT = "/api/audit/export"
HOSTILE = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", 'a "quote", a comma\nand a line', "\u202egpj.exe"]


async def test_three_formats_hold_the_same(database_url: str) -> None:
    async with running_app(database_url) as app:
        for number, target in enumerate(HOSTILE):
            await execute(
                app,
                "INSERT INTO admin_audit_log (id, action, target_id, created_at)"
                " VALUES (gen_random_uuid(), 'webhook.create', $1, '2026-01-01'::timestamptz - $2 * interval '1 s')",
                target,
                number,
            )
        document = await app.get(EXPORT)
        body = document.json()
        assert (body["truncated"], body["count"]) == (False, len(HOSTILE))
        assert [entry["targetId"] for entry in body["entries"]] == HOSTILE
        assert 'filename="audit-' in document.headers["content-disposition"]
        lines = (await app.get(EXPORT, params={"format": "jsonl"})).text.splitlines()
        first, *others = map(json.loads, lines)
        assert (first["kind"], first["record"]["truncated"]) == ("export", False)
        assert [other["record"]["targetId"] for other in others if other["record"]["targetId"] in HOSTILE] == HOSTILE
        table = await app.get(EXPORT, params={"format": "csv", "action": "webhook.create"})
        assert table.headers["content-type"].startswith("text/csv")
        head, *rows = csv.reader(io.StringIO(table.text, newline=""))
        assert head[4] == "target"
        assert [row[4] for row in rows] == [f"'{text}" if number < 6 else text for number, text in enumerate(HOSTILE)]


async def test_each_export_is_audited_and_not_in_itself(database_url: str) -> None:
    async with running_app(database_url) as app:
        assert (await app.get(EXPORT)).json()["entries"] == []
        narrowed = await app.get(EXPORT, params={"format": "csv", "actor": "nobody", "since": "2026-01-01T00:00:00Z"})
        assert narrowed.text.count("\r\n") == 1
        oldest, newest = await audit_of(app)
        assert {newest["action"], oldest["action"]} == {"audit.export"}
        assert newest["details"] == {
            "format": "csv",
            "actor": "nobody",
            "since": "2026-01-01T00:00:00Z",
            "truncated": False,
        }
        assert (await app.get(EXPORT, params={"format": "xml"})).status_code == 400
        assert len(await audit_of(app)) == 2


async def test_a_file_that_ends_early_says_so(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "MAX_ROWS", 60)
    async with running_app(database_url) as app:
        await execute(
            app,
            "INSERT INTO admin_audit_log (id, action, created_at) SELECT gen_random_uuid(), 'x', '2026-01-01'"
            " FROM generate_series(1, 60)",
        )
        whole = (await app.get(EXPORT, params={"action": "x"})).json()
        assert (whole["truncated"], whole["count"]) == (False, 60)
        cut = (await app.get(EXPORT)).json()
        assert (cut["truncated"], cut["count"]) == (True, 60)
        table = (await app.get(EXPORT, params={"format": "csv"})).text.splitlines()
        assert (len(table), table[-1]) == (62, "truncated after 60 entries: older ones match")


def test_only_text_is_guarded() -> None:
    assert [cell(value) for value in (None, -5, "-5", "a=b", "")] == ["", "-5", "'-5", "a=b", ""]
