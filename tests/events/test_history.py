"""GET /api/events/history."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from aitp_cp.clock import iso, truncate
from aitp_cp.events.model import NewEvent
from aitp_cp.events.routes import ENDPOINTS
from aitp_cp.web.edge import Edge
from aitp_cp.web.routing import Router
from tests.events.support import append, runtime
from tests.support.app import AUTH, running_app

pytestmark = pytest.mark.anyio

PATH = "/api/events/history"
START = truncate(datetime.fromisoformat("2026-05-01T12:00:00+00:00"))
# Reported out of order: the fourth is the oldest.
MINUTES = [1, 2, 3, 0, 4, 5]
KEY = "A" * 43
AID = f"aid:pubkey:{KEY}"


@pytest.fixture
async def http(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with runtime(database_url) as rt:
        await append(rt, *(_event(number, minute) for number, minute in enumerate(MINUTES)))
        transport = httpx.ASGITransport(Edge(rt, Router(rt, ENDPOINTS)))
        async with httpx.AsyncClient(transport=transport, base_url="http://cp.test", headers=AUTH) as client:
            yield client


def _event(number: int, minute: int) -> NewEvent:
    return NewEvent(
        id=uuid4(),
        type="ab"[number % 2],
        ts=START.replace(minute=minute),
        payload=f'{{"number":{number}}}',
        aid_a=AID if number == 1 else None,
        aid_b=AID if number in (2, 4) else "aid:other",
        session_id="s1" if number < 3 else None,
        run_id="r1" if number > 2 else None,
    )


async def numbers(http: httpx.AsyncClient, **query: Any) -> list[int]:
    body = (await http.get(PATH, params=query)).json()
    assert body["count"] == len(body["events"])
    return [event["payload"]["number"] for event in body["events"]]


async def test_newest_first_by_time(http: httpx.AsyncClient) -> None:
    assert await numbers(http) == [5, 4, 2, 1, 0, 3]
    assert await numbers(http, limit=2, offset=1) == [4, 2]
    assert await numbers(http, limit="garbage", offset="-3") == [5, 4, 2, 1, 0, 3]
    assert await numbers(http, limit=0) == [5]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"type": "b"}, [5, 1, 3]),
        ({"sessionId": "s1"}, [2, 1, 0]),
        ({"session_id": "s1", "type": "a"}, [2, 0]),
        ({"runId": "r1"}, [5, 4, 3]),
        ({"aid": AID}, [4, 2, 1]),
        ({"aid": f"aid:pubkey:ed25519:{KEY}", "limit": 2}, [4, 2]),
        ({"aid": AID, "limit": 1, "offset": 1}, [2]),
        ({"aid": AID, "type": "a"}, [4, 2]),
        ({"since": iso(START.replace(minute=4))}, [5, 4]),
        ({"until": iso(START.replace(minute=1))}, [0, 3]),
        ({"since": "2026-05-01T12:02:00Z", "until": "2026-05-01T14:03:00+02:00"}, [2, 1]),
    ],
)
async def test_filters(http: httpx.AsyncClient, query: dict[str, Any], expected: list[int]) -> None:
    assert await numbers(http, **query) == expected


async def test_log_order_with_a_cursor(http: httpx.AsyncClient) -> None:
    seen, cursor = [], 0
    for expected in (4, 2, 0):
        body = (await http.get(PATH, params={"order": "asc", "after": cursor, "limit": 4})).json()
        assert body["count"] == expected
        seen += [event["payload"]["number"] for event in body["events"]]
        cursor = body["nextAfter"]
    assert seen == [0, 1, 2, 3, 4, 5]
    assert cursor == 6


async def test_log_order_with_filters(http: httpx.AsyncClient) -> None:
    assert await numbers(http, order="asc", aid=AID) == [1, 2, 4]
    assert await numbers(http, order="asc", after=2, aid=AID, type="a") == [2, 4]


@pytest.mark.parametrize("query", [{"since": "yesterday"}, {"until": "2026-99-01"}, {"order": "asc", "after": "x"}])
async def test_what_is_no_time_or_position(http: httpx.AsyncClient, query: dict[str, str]) -> None:
    response = await http.get(PATH, params=query)
    assert (response.status_code, response.json()["code"]) == (400, "FILTER_INVALID")


async def test_only_with_a_key(http: httpx.AsyncClient) -> None:
    for path in (PATH, "/api/events/stream"):
        response = await http.get(path, headers={"Authorization": "Bearer wrong"})
        assert (response.status_code, response.json()["code"]) == (401, "INVALID_API_KEY")


async def test_a_stream_has_no_head(http: httpx.AsyncClient) -> None:
    assert (await http.head("/api/events/stream")).status_code == 405


async def test_a_type_may_be_a_beginning(database_url: str) -> None:
    """Paged by cursor and by offset, beside other filters, in log order, and in a type of its own that ends so."""
    kinds = ["handshake.started", "handshake.complete", "tct.revoked", "handshakes", "handshake.", "a*"]
    async with running_app(database_url) as app:
        for number, kind in enumerate(kinds * 2):
            await append(app.rt, msgspec.structs.replace(_event(number % 6, number), id=uuid4(), type=kind))

        async def seqs(query: str) -> list[int]:
            return [event["seq"] for event in (await app.get(f"{PATH}?{query}")).json()["events"]]

        wanted = [11, 8, 7, 5, 2, 1]
        for prefix in ("handshake.", "handshake.*"):
            assert await seqs(f"type={prefix}") == wanted
            assert await seqs(f"type={prefix}&limit=2&offset=3") == [5, 2]
            assert await seqs(f"type={prefix}&since=2026-05-01T12:05:00Z") == [11, 8, 7]
            assert await seqs(f"type={prefix}&order=asc") == wanted[::-1]
            assert await seqs(f"type={prefix}&aid=aid:other") == [seq for seq in wanted if seq not in (5, 11)]
            assert await seqs(f"type={prefix}&runId=r1") == [11, 5]
            first = (await app.get(f"{PATH}?type={prefix}&limit=4")).json()
            assert await seqs(f"type={prefix}&before={first['nextBefore']}") == wanted[4:]
        assert await seqs("type=a*") == [12, 6]
        assert await seqs("type=nothing.") == []
        types = (await app.get("/api/events/types")).json()
    shown = {row["type"]: row["count"] for row in types["types"]}
    assert {kind: shown[kind] for kind in kinds} == dict.fromkeys(kinds, 2)
    assert (shown["agent.expired"], types["counted"]) == (0, 12)
