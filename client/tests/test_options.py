"""Addresses, proxies, retries and paging."""

import pytest
from yarl import URL

from aitp_cp_client import ControlPlane, ControlPlaneError, Retries
from aitp_cp_client.options import proxy_of_environment
from aitp_cp_client.paging import Rows, rows

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.mark.parametrize(
    "url",
    ["", "cp.example", "ftp://cp.example", "http://", "http://u:canary@h", "http://h/?key=canary", "http://h:canary/"],
)
def test_invalid_addresses(url: str) -> None:
    with pytest.raises(ValueError, match="URL") as refused:
        ControlPlane(url)
    assert "canary" not in str(refused.value)


def test_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    assert proxy_of_environment(URL("https://cp.example")) is None
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("http_proxy", "proxy.example:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert proxy_of_environment(URL("https://cp.example")) == URL("http://proxy.example:3128")
    assert proxy_of_environment(URL("http://cp.example")) == URL("http://proxy.example:3128")
    for here in ("http://127.0.0.1:4000", "http://localhost:4000", "http://[::1]:4000", "https://cp.inside.example"):
        assert proxy_of_environment(URL(here)) is None
    monkeypatch.setenv("https_proxy", "socks5://user:canary@proxy.example")
    with pytest.raises(ValueError, match="neither http nor https") as refused:
        ControlPlane("https://cp.example")
    assert "canary" not in str(refused.value)


def test_waits_grow_and_end() -> None:
    failed = ControlPlaneError("UNREACHABLE", "no")
    waits = [Retries().wait(failed, repeatable=True, attempt=attempt) for attempt in range(4)]
    assert waits[3] is None
    assert [wait is not None and 0.15 * 2**n <= wait <= 0.25 * 2**n for n, wait in enumerate(waits[:3])] == [True] * 3
    assert Retries().wait(failed, repeatable=False, attempt=0) is None


@pytest.mark.anyio
@pytest.mark.parametrize("size", [1, 3, 4, 5, 20])
async def test_concurrent_inserts_repeat_no_row(size: int) -> None:
    numbers = list(range(10, 0, -1))

    async def fetch(limit: int, offset: int = 0, before: str | None = None) -> Rows[int]:
        left = [number for number in numbers if before is None or number < int(before)][offset:]
        numbers.insert(0, numbers[0] + 1)
        return Rows(left[:limit], str(left[limit - 1]) if len(left) > limit else None)

    read = [number async for number in rows(fetch, size)]
    assert read == list(range(10, 0, -1))


@pytest.mark.anyio
@pytest.mark.parametrize("size", [3, 5, 10, 20])
async def test_a_server_without_cursors_is_read_by_offset(size: int) -> None:
    async def fetch(limit: int, offset: int = 0, before: str | None = None) -> Rows[int]:
        assert before is None
        return Rows(range(10)[offset : offset + limit], None)

    assert [number async for number in rows(fetch, size)] == list(range(10))
