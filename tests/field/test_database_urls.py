"""URLs as other clients write them, and refusals by the server in words (row 12)."""

import asyncio
import re
import time
from urllib.parse import quote

import pytest

from aitp_cp.database_url import DatabaseUrlError, read
from aitp_cp.settings import SettingsError, load
from tests.cli.support import GOOD, run, said, shell
from tests.support.app import running_app
from tests.support.process import free_port
from tests.support.proxy import Proxy

OTHER_CLIENTS = [
    "connect_timeout=10",
    "keepalives=1&keepalives_idle=30",
    "channel_binding=require",
    "gssencmode=disable",
    "schema=public",
    "currentSchema=public",
    "pgbouncer=true",
    "uselibpqcompat=true",
    "connection_limit=5&pool_timeout=10",
    "application_name=billing",
    "statement_timeout=1000",
    "options=-c%20work_mem%3D8MB",
    "target_session_attrs=read-write",
    "search_path=public",
    "ssl=false",
]


@pytest.mark.anyio
@pytest.mark.parametrize("parameters", OTHER_CLIENTS)
async def test_parameters_of_other_clients(database_url: str, parameters: str) -> None:
    """Row 12: known names are mapped or dropped with a warning; the process connects and works."""
    async with running_app(f"{database_url}&{parameters}") as app:
        assert (await app.post("/api/events", [{"type": "demo.event"}])).status_code == 200
        async with app.rt.db.connection() as conn:
            assert await conn.fetchval("SELECT current_schema()") == "public"
            name = "billing" if "billing" in parameters else "aitp-cp"
            assert await conn.fetchval("SHOW application_name") == name
            assert await conn.fetchval("SHOW statement_timeout") == "15s"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql+asyncpg", "postgresql+psycopg2"])
def test_schemes_of_other_clients(scheme: str) -> None:
    """Row 12: `postgresql+asyncpg://` and its like are what they say."""
    assert read(f"{scheme}://u:p@h:6000/db").dsn == "postgresql://u:p@h:6000/db"


@pytest.mark.parametrize(
    ("parameter", "driver", "by_system"),
    [
        ("ssl=true", None, True),
        ("sslmode=no-verify", "sslmode=require", False),
        ("sslmode=verify-full&sslrootcert=system", "sslmode=verify-full", True),
        ("sslmode=verify-full&sslrootcert=/etc/ca.pem", "sslrootcert=%2Fetc%2Fca.pem", False),
        ("ssl=require", "sslmode=require", False),
    ],
)
def test_tls_is_never_weaker_than_asked_for(parameter: str, driver: str | None, by_system: bool) -> None:
    """Row 12: `ssl=true` of node-postgres verifies the server there, and does here."""
    url = read(f"postgresql://h/db?{parameter}")
    assert url.verify_by_system is by_system
    assert driver is None or driver in url.dsn


@pytest.mark.parametrize("name", ["sslaccept", "require_auth", "requirepeer", "no_such_thing", "hostaddr"])
def test_an_unknown_parameter_is_a_wrong_setting_by_name(name: str) -> None:
    """Row 12: named at once, instead of half a minute of waiting; no value is repeated."""
    with pytest.raises(SettingsError, match=f"DATABASE_URL: .*parameter {name}") as refused:
        load({**GOOD, "DATABASE_URL": f"postgresql://u:canary@h/db?{name}=canary"}, command="serve")
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["gssencmode=require", "replication=database"])
def test_what_cannot_be_honoured_is_refused(scheme: str) -> None:
    """Row 12: a parameter that asks for more than the driver can is not dropped."""
    with pytest.raises(DatabaseUrlError, match=scheme.partition("=")[0]):
        read(f"postgresql://h/db?{scheme}")


@pytest.mark.parametrize("character", list("/?#[]"))
def test_an_unescaped_character_in_the_password(character: str) -> None:
    """Row 12: the sentence names the character and its escape, and not the password."""
    url = f"postgresql://u:cana{character}ry@h:5432/db"
    with pytest.raises(SettingsError) as refused:
        load({**GOOD, "DATABASE_URL": url}, command="serve")
    assert quote(character, safe="") in str(refused.value)
    assert "cana" not in str(refused.value)


@pytest.mark.parametrize("password", ["p@ss", "a:b@c", "100%", "pl+us", "sp ace", "p%40ss"])
def test_passwords_that_can_be_read_as_they_are(password: str) -> None:
    """Row 12: @, :, % and + stand for themselves; an escape is an escape."""
    wanted = quote(password.replace("%40", "@"), safe="")
    assert read(f"postgresql://u:{password}@h/db").dsn == f"postgresql://u:{wanted}@h/db"


def test_several_hosts_pass_through() -> None:
    """Row 12: a cluster's URL reaches the driver as it is."""
    url = "postgresql://u:p@h1:5432,h2:5433/db?target_session_attrs=read-write"
    assert read(url).dsn == url


def test_notices_reach_the_operator(database_url: str) -> None:
    """Row 12: what was dropped is said by check, by name."""
    checked = run("check", **GOOD, DATABASE_URL=f"{database_url}&channel_binding=require&keepalives=1")
    assert checked.returncode == 0
    assert "warn DATABASE_URL holds a parameter of another client: channel_binding is ignored" in said(checked)
    assert "keepalives is ignored" in said(checked)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda dsn: re.sub("//[^@]*@", "//nobody_of_that_name@", dsn), "refuses: it refuses the role"),
        (
            lambda dsn: re.sub(r"/test_\w+", "/no-such-database", dsn),
            "refuses: the server has no database of that name",
        ),
        (lambda dsn: f"{dsn}&options=-c%20no_such%3D1", "refuses: it does not know a parameter"),
        (lambda dsn: f"{dsn}&role=no_such_role", "refuses: "),
    ],
)
def test_a_refusal_is_not_unreachable(database_url: str, change: object, sentence: str) -> None:
    """Row 12: check says that the server refuses and why."""
    assert callable(change)
    checked = run("check", **GOOD, DATABASE_URL=change(database_url))
    assert (checked.returncode, f"fail database {sentence}" in said(checked)) == (1, True), said(checked)
    assert "cannot be reached" not in said(checked)


def test_what_waiting_does_not_cure_is_not_waited_for(database_url: str) -> None:
    """Row 12: a URL that the server refuses for good ends the start at once."""
    began = time.monotonic()
    dsn = f"{database_url}&options=-c%20no_such%3D1"
    done = shell("serve", **GOOD, DATABASE_URL=dsn, HOST="127.0.0.1", PORT=str(free_port()))
    assert (done.returncode, "it does not know a parameter" in said(done)) == (3, True), said(done)
    assert time.monotonic() - began < 15


@pytest.mark.anyio
async def test_a_server_without_tls(database_url: str) -> None:
    """Row 12: a server that offers no TLS is named as such."""
    async with Proxy(database_url) as proxy:
        dsn = proxy.dsn.replace("sslmode=disable", "sslmode=require")
        checked = await asyncio.to_thread(run, "check", **GOOD, DATABASE_URL=dsn)
    assert "it does not offer TLS; see sslmode" in said(checked)
