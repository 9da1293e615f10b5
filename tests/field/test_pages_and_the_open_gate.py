"""A page in a developer's browser reaches the machine it runs on, and must get nothing there (row A20)."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from aitp_cp.settings import SettingsError, load
from tests.support.app import ENVIRONMENT, running_app
from tests.support.process import Process
from tests.support.raw import Reply, send

pytestmark = pytest.mark.anyio

LOOPBACK = ["localhost", "localhost:4000", "LocalHost.", "127.0.0.1", "127.9.8.7:80", "[::1]:4000", "app.localhost:1"]
FOREIGN = ["evil.example", "evil.example:4000", "localhost.evil.example", "127.0.0.1.evil.example", "cp.test@127.0.0.1"]
ADDRESSES = ["192.168.1.5:4000", "10.0.0.1", "[fd00::1]:4000", "control-plane:4000"]
PATHS = ["/api/registry/agents", "/api/audit", "/api/health", "/.well-known/aitp-manifest", "/nowhere"]


def outcome(response: httpx.Response | Reply) -> tuple[int, str | None]:
    status = response.status_code if isinstance(response, httpx.Response) else response.status
    body = json.loads(response.content if isinstance(response, httpx.Response) else response.body)
    return status, body.get("code")


REFUSED = 421, "HOST_UNKNOWN"


@pytest.mark.parametrize(
    ("environment", "answered", "refused"),
    [
        ({"API_KEYS": "", "HOST": "127.0.0.1"}, LOOPBACK, [*FOREIGN, *ADDRESSES]),
        (
            {"API_KEYS": "", "HOST": "::1", "CP_BASE_URL": "https://dev.example:8443"},
            [*LOOPBACK, "dev.example"],
            FOREIGN,
        ),
        (
            {"API_KEYS": "", "HOST": "localhost", "ALLOWED_HOSTS": "evil.example"},
            [*LOOPBACK, "evil.example:1"],
            FOREIGN[2:],
        ),
        ({"ALLOWED_HOSTS": ".Corp.example"}, [*LOOPBACK, *ADDRESSES, "a.b.corp.example"], [*FOREIGN, "corp.example"]),
        ({"API_KEYS": "", "HOST": "127.0.0.1", "ALLOWED_HOSTS": "*"}, [*LOOPBACK, *FOREIGN, *ADDRESSES], []),
        ({"HOST": "127.0.0.1"}, [*LOOPBACK, *FOREIGN, *ADDRESSES], []),
        ({"API_KEYS": "", "HOST": "0.0.0.0"}, [*LOOPBACK, *FOREIGN, *ADDRESSES], []),
    ],
)
async def test_only_known_host_names_are_answered(
    database_url: str, environment: dict[str, str], answered: list[str], refused: list[str]
) -> None:
    """Row A20: an open gate on loopback answers for loopback names, whatever the path; all else is 421."""
    async with running_app(database_url, **environment) as app:
        for path in PATHS:
            for host in answered:
                assert outcome(await app.http.get(path, headers={"Host": host}))[0] != 421, host
            for host in refused:
                assert outcome(await app.http.get(path, headers={"Host": host})) == REFUSED, host
        for method in ("POST", "DELETE", "OPTIONS"):
            for host in refused:
                response = await app.http.request(method, "/api/events", headers={"Host": host})
                assert outcome(response) == REFUSED


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://evil.example", False),
        ("null", False),
        ("", False),
        ("https://localhost.evil.example", False),
        ("http://192.168.1.5:4000", False),
        ("http://cp.test", False),
        ("http://localhost:3000", True),
        ("http://127.0.0.1:4000", True),
        ("http://[::1]:4000", True),
        ("https://console.example", True),
        (None, True),
    ],
)
async def test_a_page_of_another_origin_gets_nothing(database_url: str, origin: str | None, allowed: bool) -> None:
    """Row A20: a page that calls 127.0.0.1 directly shows its origin; the open gate is not open to it."""
    headers = {"Host": "127.0.0.1:4000"} | ({} if origin is None else {"Origin": origin})
    async with (
        running_app(database_url, API_KEYS="", HOST="127.0.0.1", CORS_ORIGIN="https://console.example") as listed,
        running_app(database_url, API_KEYS="", HOST="0.0.0.0", CORS_ORIGIN="*") as open_to_all,
    ):
        for app in (listed, open_to_all):
            may = allowed and (app is listed or origin != "https://console.example")
            posted = await app.http.post("/api/events", json=[{"type": "page"}], headers=headers)
            read = await app.http.get("/api/events/history", headers=headers)
            assert [outcome(posted), outcome(read)] == [(200, None) if may else (403, "ORIGIN_NOT_ALLOWED")] * 2
            assert (await app.http.get("/api/registry/agents", headers=headers)).status_code == 200


async def test_the_servers_own_page_beyond_loopback(database_url: str) -> None:
    """Row A20: where others can reach the server, a page that it served itself by an address may call it."""
    async with running_app(database_url, API_KEYS="", HOST="0.0.0.0") as app:
        own = {"Host": "192.168.1.5:4000", "Origin": "http://192.168.1.5:4000"}
        assert (await app.http.get("/api/audit", headers=own)).status_code == 200
        pointed_here = {"Host": "evil.example:4000", "Origin": "http://evil.example:4000"}
        assert outcome(await app.http.get("/api/audit", headers=pointed_here)) == (403, "ORIGIN_NOT_ALLOWED")


async def test_with_keys_an_origin_decides_nothing(database_url: str) -> None:
    """Row A20: a valid key is proof enough; `Origin` is then a matter of CORS alone, as before."""
    async with running_app(database_url) as app:
        assert (await app.get("/api/audit", headers={"Origin": "https://evil.example"})).status_code == 200
        response = await app.http.get("/api/audit", headers={"Origin": "https://evil.example"})
        assert outcome(response) == (401, "INVALID_API_KEY")


@pytest.fixture(params=["127.0.0.1", "0.0.0.0"])
def dev(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Iterator[tuple[Process, str]]:
    server = Process(database_url, tmp_path / "log", HOST=request.param)
    server.command, server.folder = "dev", tmp_path  # it keeps its secrets there
    with server:
        yield server, request.param


def asked(server: Process, *hosts: str) -> list[tuple[int, str | None]]:
    requests = [f"GET /api/health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n" for host in hosts]
    return [outcome(send(server.port, request.encode())) for request in requests]


def test_dev_answers_for_this_machine_alone(dev: tuple[Process, str]) -> None:
    """Row A20: under `dev` every answer depends on `Host`, also with keys and also one that lies ready in memory."""
    server, host = dev
    assert asked(server, *LOOPBACK) == [(200, None)] * len(LOOPBACK)
    with httpx.Client(base_url=server.url) as http:  # kept open: only then are answers given from memory
        for path in ("/api/registry/agents", "/api/health") * 8:
            assert outcome(http.get(path)) == (200, None)
            assert outcome(http.get(path, headers={"Host": "evil.example"})) == REFUSED
    reached = (200, None) if host == "0.0.0.0" else REFUSED
    assert asked(server, *ADDRESSES) == [reached] * len(ADDRESSES)


@pytest.mark.parametrize("wrong", ["a b", "http://cp.example", "cp.example:4000", "cp.example/x", "*.example", "."])
def test_names_that_no_request_can_address_are_wrong_settings(wrong: str) -> None:
    """Row A20: an entry of ALLOWED_HOSTS that can never match is refused at the start."""
    with pytest.raises(SettingsError, match="ALLOWED_HOSTS"):
        load(
            {**ENVIRONMENT, "DATABASE_URL": "postgresql://h/d", "ALLOWED_HOSTS": f"ok.example,{wrong}"}, command="serve"
        )
