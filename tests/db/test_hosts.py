"""Several hosts in DATABASE_URL: which one is used, how long the others may hold it up, and what is said of them."""

import asyncio
import time
from urllib.parse import urlsplit

import pytest

from aitp_cp.database_url import DatabaseUrlError, Host, read
from aitp_cp.db.connect import HOST_TIMEOUT_SECS, connect
from aitp_cp.db.failures import reason
from tests.support.proxy import Proxy

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://u:p@db1,db2:6000/cp", (Host("db1", ""), Host("db2", "6000"))),
        ("postgresql://u:p@/cp?host=db1,db2&port=6000", (Host("db1", "6000"), Host("db2", "6000"))),
        ("postgresql://u:p@/cp?host=/run/a,/run/b&port=1,2", (Host("/run/a", "1"), Host("/run/b", "2"))),
        ("postgresql://[::1]:6000,[fe80::1]/cp", (Host("[::1]", "6000"), Host("[fe80::1]", ""))),
        ("postgresql://u@h/cp", (Host("h", ""),)),
        ("postgresql:///cp", ()),
    ],
)
async def test_hosts_as_libpq_writes_them(url: str, hosts: tuple[Host, ...]) -> None:
    assert read(url).hosts == hosts


async def test_one_of_them_alone_keeps_everything_else() -> None:
    url = read("postgresql://u:p%40@db1,db2:6000/cp?sslmode=require&target_session_attrs=any")
    alone = url.alone(url.hosts[1], "read-write")
    assert alone == "postgresql://u:p%40@/cp?sslmode=require&host=db2&port=6000&target_session_attrs=read-write"


@pytest.mark.parametrize("url", ["postgresql://a,,b/cp", "postgresql://a,b/cp?port=1,2,3"])
async def test_lists_that_do_not_fit(url: str) -> None:
    with pytest.raises(DatabaseUrlError, match="host"):
        read(url)


def listed(database_url: str, *ports: int) -> str:
    """The database behind each of these ports of this machine."""
    url = urlsplit(database_url)
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgresql://{url.username}:canary@{hosts}{url.path}?sslmode=disable"


def port(proxy: Proxy) -> int:
    found = urlsplit(proxy.dsn).port
    assert found
    return found


async def test_a_silent_and_a_closed_host_hold_nobody_up(database_url: str) -> None:
    """A machine that has vanished accepts no packet: the next host gets its turn after a quarter of a second."""
    async with Proxy(database_url) as silent, Proxy(database_url) as live:
        silent.stall()
        for ports in ((port(silent), port(live)), (1, port(live)), (1, port(silent), port(live))):
            began = time.monotonic()
            conn = await connect(listed(database_url, *ports))
            assert time.monotonic() - began < 1.5
            assert await conn.fetchval("SHOW statement_timeout") == "15s"
            await conn.close()


async def test_what_is_said_of_each_names_it_and_no_password(database_url: str) -> None:
    async with Proxy(database_url) as silent:
        silent.stall()
        began = time.monotonic()
        with pytest.raises(OSError, match="none of the hosts") as refused:
            await connect(listed(database_url, 1, port(silent)))
        assert time.monotonic() - began < HOST_TIMEOUT_SECS + 1
    said = reason(refused.value)
    assert "127.0.0.1:1: nothing listens at its address" in said
    assert f"127.0.0.1:{port(silent)}: no response in time" in said
    assert "canary" not in said + str(refused.value)


async def test_the_first_that_takes_writes_is_used_unless_told_otherwise(database_url: str) -> None:
    """Without target_session_attrs a server that takes no writes is passed over."""
    readonly = database_url + "&options=-c%20default_transaction_read_only%3Don"
    async with Proxy(readonly) as one, Proxy(database_url) as other:
        both = listed(database_url, port(one), port(other))
        with pytest.raises(OSError, match="none of the hosts"):
            await connect(both + "&options=-c%20default_transaction_read_only%3Don")
        conn = await connect(both + "&options=-c%20default_transaction_read_only%3Don", standby=True)
        await conn.close()
        await asyncio.gather(*[(await connect(both)).close() for _ in range(3)])
