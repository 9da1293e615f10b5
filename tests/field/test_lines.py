"""JSON that is framed by lines holds nothing that some reader takes for the end of one."""

import json
from typing import Any

import pytest

from aitp_cp.events.tail import Tail
from aitp_cp.protocol.json_lines import one_line
from tests.support.app import running_app
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

LINE_ENDS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"  # all of str.splitlines
EVENT: dict[str, Any] = {
    "type": f"demo{LINE_ENDS}event",
    "session_id": "s",
    "payload": {f"name{LINE_ENDS}": [LINE_ENDS, "\xc2\x85", "é\u2027\u202a"]},
    "grants": [LINE_ENDS],
}


async def test_streams_and_exports_escape_every_end_of_a_line(database_url: str) -> None:
    """Kind: U+2028, U+2029 and U+0085 went out raw, and clients that split by lines broke the JSON there."""
    async with running_app(database_url) as app:
        await app.post("/api/events", [{"type": "handshake.started", "session_id": "s"}, EVENT])
        ring = app.rt.get(Tail).ring
        await until(lambda: ring.end == ring.base + 2)
        data = ring.at(ring.end - 1).data.decode()
        assert data.count("\n") == 3
        assert len(data.splitlines()) == 3
        shown = json.loads(data.splitlines()[1].removeprefix("data: "))
        assert (shown["type"], shown["payload"], shown["grants"]) == (EVENT["type"], EVENT["payload"], EVENT["grants"])

        text = (await app.get("/api/sessions/s/export?format=jsonl")).content.decode()
        records = [json.loads(line)["record"] for line in text.splitlines()]
        assert EVENT["payload"] in [record.get("payload") for record in records]


def test_only_ends_of_lines_change() -> None:
    """Kind: other characters are sent as they are."""
    text = json.dumps("é\u2027\u202a\x84\x86\U0001f600", ensure_ascii=False).encode()
    assert one_line(text) is text or one_line(text) == text
    assert one_line("\u2028\x85".encode()) == b"\\u2028\\u0085"
