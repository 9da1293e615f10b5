"""What a client sends is compared as it was sent: keys, paths and body codings (rows 27, 41, A12)."""

import gzip
from collections.abc import AsyncIterator

import httpx
import pytest

from aitp_cp.app import ENDPOINTS
from aitp_cp.web.endpoint import Gate
from tests.support.app import AUTH, App, running_app

pytestmark = pytest.mark.anyio

ENDINGS = ("\u00e0", "\u0105", "\u00c5", "\u8005")  # their UTF-8 ends in 0xA0 or 0x85
EVENT = b'{"events": [{"type": "note", "ts": 1779710400}]}'


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_key_is_compared_byte_for_byte(database_url: str, ending: str) -> None:
    """Row 41: stripping Unicode white space cut the last byte of some keys."""
    key = f"a-long-enough-key-{ending}"
    async with running_app(database_url, API_KEYS=key) as app:
        for offered, status in ((key, 200), (key[:-1], 401)):
            bearer = b"Bearer " + offered.encode()
            response = await app.http.get("/api/audit", headers=[(b"authorization", bearer)])
            assert response.status_code == status


@pytest.mark.parametrize(
    "path",
    [
        "/api%2fmetrics",
        "/api/m%65trics",
        "/%61pi/metrics",
        "/api/metrics%20",
        "/.well-known%2Faitp-manifest",
        "//api/metrics",
    ],
)
async def test_a_fixed_path_in_another_spelling_is_unknown(database_url: str, path: str) -> None:
    """Row A12: an edge that denies `/api/metrics` compares what was sent."""
    async with running_app(database_url) as app:
        response = await app.http.get(f"http://cp.test{path}")
        assert (response.status_code, response.json()["code"]) == (404, "NOT_FOUND")


async def test_every_fixed_path_matches_only_as_it_is_written(database_url: str) -> None:
    """Row A12, for the whole table."""
    async with running_app(database_url) as app:
        for endpoint in ENDPOINTS:
            if "{" in endpoint.path or endpoint.gate is not Gate.OPEN or endpoint.method != "GET":
                continue
            path = endpoint.path[:-1] + f"%{ord(endpoint.path[-1]):02x}"
            assert (await app.http.get(path)).status_code == 404, path


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[App]:
    async with running_app(database_url) as running:
        yield running


async def report(app: App, body: bytes, **headers: str) -> httpx.Response:
    return await app.http.post("/api/events", content=body, headers={**AUTH, **headers})


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "deflate", "identity, gzip", "zstd"])
async def test_a_coded_body_is_refused_by_name(app: App, coding: str) -> None:
    """Row 27: a gzip body was "not JSON"."""
    response = await report(app, gzip.compress(EVENT), **{"content-encoding": coding})
    assert (response.status_code, response.json()["code"]) == (415, "ENCODING_UNSUPPORTED")


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
async def test_no_coding_is_no_coding(app: App, coding: str) -> None:
    assert (await report(app, EVENT, **{"content-encoding": coding})).status_code == 200


async def test_a_byte_order_mark_is_skipped(app: App) -> None:
    """Row 27: some clients begin UTF-8 with one."""
    first, second = await report(app, b"\xef\xbb\xbf" + EVENT), await report(app, EVENT)
    assert first.json()["inserted"] == 1
    assert second.json()["duplicates"] == 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le"])
async def test_utf_16_is_refused_with_a_sentence(app: App, encoding: str) -> None:
    response = await report(app, EVENT.decode().encode(encoding))
    assert (response.status_code, response.json()["code"]) == (400, "BODY_INVALID")
    if encoding == "utf-16":
        assert "UTF-8" in response.json()["error"]
