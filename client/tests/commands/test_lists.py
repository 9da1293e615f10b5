"""Lists and records, as tables and as JSON."""

import json
import re
import signal
from uuid import uuid4

import httpx

from client.tests.commands.support import at, enrolled, on_screen, read, report, started
from tests.cli.support import said
from tests.support.agents import delegation, handshake, new_agent
from tests.support.app import AUTH, OTHER_KEY
from tests.support.process import Process, free_port
from tests.support.signed import signed_by_library
from tests.support.waiting import eventually

HOSTILE = "\x1b[2Jred\x9b31m \u202eevil [bold]"
HARMLESS = "\\x1b[2Jred\\x9b31m \\u202eevil [bold]"


def test_agents_are_listed_shown_and_deregistered(server: Process) -> None:
    namespace = uuid4().hex
    agents = [enrolled(server, name=f"agent {number}", **{"X-Aitp-Namespace": namespace}) for number in range(3)]
    document = read(at(server, "agents", "list", "--namespace", namespace, "--json"))
    shown = httpx.get(f"{server.url}/api/registry/agents", params={"namespace": namespace}).json()
    assert document == shown
    assert "manifestJson" not in document["agents"][0]
    table = at(server, "agents", "list", "--namespace", namespace)
    for agent in agents:
        assert agent.aid in table.stdout
    first = at(server, "agents", "list", "--namespace", namespace, "--limit", "2")
    assert agents[1].aid in first.stdout
    assert agents[2].aid not in first.stdout
    assert first.stderr == "only the first 2; --limit shows more\n"
    (listed_agent,) = read(at(server, "agents", "list", "--name", "agent 1", "--namespace", namespace, "--json"))[
        "agents"
    ]

    assert read(at(server, "agents", "list", "--find", agents[1].aid[-9:], "--json"))["agents"] == [listed_agent]

    aid = agents[1].aid
    (kept,) = read(at(server, "agents", "manifests", aid, "--json"))["manifests"]
    assert said(at(server, "agents", "manifests", aid)).endswith(f"{kept['bytes']} {kept['sha256']}")
    hits = read(at(server, "search", aid, "--json"))["hits"]
    assert hits == [{"kind": "agent", "id": aid, "name": "agent 1", "status": "active"}]
    assert f"agent {aid} agent 1 active" in said(at(server, "search", aid))
    assert read(at(server, "agents", "show", aid, "--json")) == listed_agent
    shown = said(at(server, "agents", "show", aid))
    assert f"name agent 1 status active last seen — namespace {namespace} capabilities cap.read" in shown
    assert at(server, "agents", "deregister", aid).stdout == f"deregistered {aid}\n"
    again = read(at(server, "agents", "deregister", aid, "--json"))
    assert again == {"aid": aid, "status": "deregistered"}
    gone = read(at(server, "agents", "list", "--status", "deregistered", "--namespace", namespace, "--json"))
    assert [agent["aid"] for agent in gone["agents"]] == [aid]


def test_a_name_cannot_control_the_terminal(server: Process) -> None:
    agent = enrolled(server, name=HOSTILE)
    session = uuid4().hex
    report(server, HOSTILE, session_id=session, type="handshake.failed", payload={"error": HOSTILE})
    for arguments in (
        ("agents", "show", agent.aid),
        ("agents", "list", "--name", HOSTILE),
        ("sessions", "show", session),
    ):
        people = at(server, *arguments)
        assert HARMLESS in people.stdout, people
        scripts = at(server, *arguments, "--json")
        assert scripts.stdout.isascii()
        assert json.dumps(HOSTILE) in scripts.stdout
        for done in (people, scripts):
            assert all(char.isprintable() for char in done.stdout.replace("\n", "")), done.stdout
    unknown = at(server, "agents", "show", HOSTILE)
    assert unknown.returncode == 3
    assert unknown.stderr.replace("\n", "").isprintable()


def test_a_narrow_terminal_wraps_no_id(server: Process) -> None:
    namespace = uuid4().hex
    agent = enrolled(server, name="x" * 200, **{"X-Aitp-Namespace": namespace})
    shown = on_screen(server.url, "agents", "list", "--namespace", namespace)
    assert [re.sub(r"\x1b\[\d*m", "", line) for line in shown.splitlines()] == [
        f"aid        {agent.aid}",
        f"name       {'x' * 200}",
        "status     active",
        "last seen  —",
        "",
    ]


def test_revoking_and_listing(server: Process) -> None:
    jti = str(uuid4())
    entry = read(at(server, "revoke", jti, "--reason", "key lost", "--json"))
    assert (entry["jti"], entry["reason"]) == (jti, "key lost")
    assert f"jti {jti} revoked {entry['revokedAt']} reason key lost" in said(at(server, "revoke", jti))
    assert entry in read(at(server, "revocations", "list", "--json"))["entries"]
    assert jti in at(server, "revocations", "list").stdout
    refused = at(server, "revoke", "no-uuid")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "JTI_INVALID, request " in refused.stderr


def test_the_signed_list_is_verified(server: Process) -> None:
    aid = httpx.get(f"{server.url}/api/health").json()["aid"]
    listed_agent = read(at(server, "revocations", "verify", "--pin", aid, "--json"))
    assert (listed_agent["verified"], listed_agent["issuer"], listed_agent["pinned"]) == (True, aid, True)
    pinned = at(server, "revocations", "verify", "--pin", aid)
    assert (pinned.returncode, pinned.stderr) == (0, "")
    assert f"issuer {aid}" in said(pinned)
    assert "--pin AID" in at(server, "revocations", "verify").stderr
    stranger = enrolled(server).aid
    refused = at(server, "revocations", "verify", "--pin", stranger, "--json")
    assert (refused.returncode, refused.stdout) == (6, "")
    assert "UNVERIFIED" in refused.stderr
    assert at(server, "revocations", "verify", "--pin", "nonsense").returncode == 2


def test_a_session_with_its_events(server: Process) -> None:
    session = uuid4().hex
    report(server, "r", session_id=session, type="handshake.failed", aid_a="aid:alice", aid_b="aid:bob")
    document = read(at(server, "sessions", "show", session, "--json"))
    assert document == httpx.get(f"{server.url}/api/sessions/{session}", headers=AUTH).json()
    shown = said(at(server, "sessions", "show", session))
    assert f"session {session} status failed initiator aid:alice responder aid:bob" in shown
    assert at(server, "sessions", "show", "unknown").returncode == 3


def test_sessions_are_listed_by_what_became_of_them(server: Process) -> None:
    run, error = uuid4().hex, uuid4().hex
    report(server, run, session_id=run, type="handshake.failed", payload={"error": error, "boundary": "edge"})
    every = ("sessions", "list", "--run", run, "--status", "failed", "--boundary", "edge", "--since", "2026-01-01")
    document = read(at(server, *every, "--error", error, "--json"))
    assert document == httpx.get(f"{server.url}/api/sessions", params={"runId": run}, headers=AUTH).json()
    assert f"{run} failed — — edge {error}" in said(at(server, *every))
    for other in (("--until", "2026-01-01"), ("--error", "x"), ("--boundary", "x")):
        assert read(at(server, "sessions", "list", "--run", run, *other, "--json")) == {"sessions": []}
    assert at(server, "sessions", "list", "--since", "yesterday").returncode == 2


def test_tokens_with_what_they_are_worth(server: Process) -> None:
    """The peer lies about the same token: the row says who is right."""
    alice, bob, carol = new_agent(), new_agent(), new_agent()
    done = handshake(alice, bob).initiator
    hop = delegation(alice, done.voucher, carol)
    report(server, "1", type="tct.issued", payload={"tct": {"token": done.token, "claims": {"grants": ["admin"]}}})
    report(server, "2", type="delegation.issued", payload={"delegation": {"token": hop}})
    for name, issued_by, member in (("tcts", "--issuer", bob.aid), ("delegations", "--delegator", alice.aid)):
        document = read(at(server, name, "list", "--verdict", "verified", issued_by, member, "--active", "--json"))
        path = f"{server.url}/api/{name}"
        shown = httpx.get(path, params={issued_by[2:]: member, "verdict": "verified"}, headers=AUTH).json()
        assert document[name] == shown[name]
        assert document[name][0]["verdict"] == "verified"
        assert read(at(server, name, "list", "--verdict", "none", issued_by, member, "--json")) == {name: []}
    assert "verified, mismatch" in at(server, "tcts", "list", "--subject", alice.aid).stdout
    assert "verified" in at(server, "delegations", "list", "--delegatee", carol.aid).stdout
    assert at(server, "tcts", "list", "--verdict", "forged").returncode == 2
    ending = ("tcts", "list", "--issuer", bob.aid, "--json", "--expires-before")
    assert [row["subject"] for row in read(at(server, *ending, "1w"))["tcts"]] == [alice.aid]
    assert read(at(server, *ending, "2026-01-01")) == {"tcts": []}


def test_webhooks_and_their_deliveries(server: Process) -> None:
    body = {"url": f"http://127.0.0.1:{free_port()}/nobody"}
    webhook = httpx.post(f"{server.url}/api/webhooks", json=body, headers=AUTH).json()
    listed = read(at(server, "webhooks", "list", "--json"))["webhooks"]
    assert webhook["id"] in {row["id"] for row in listed}
    assert webhook["secret"] not in at(server, "webhooks", "list", "--json").stdout
    assert body["url"] in at(server, "webhooks", "list").stdout

    sent = read(at(server, "webhooks", "test", webhook["id"], "--json"))
    assert sent["eventType"] == "webhook.test"

    def tried() -> bool:
        log = read(at(server, "webhooks", "deliveries", webhook["id"], "--json"))["deliveries"]
        return bool(log[0]["id"] == sent["id"] and log[0]["attempts"])

    eventually(tried)
    assert sent["id"] in at(server, "webhooks", "redeliver", webhook["id"], sent["id"]).stdout
    assert sent["id"] in at(server, "webhooks", "deliveries", webhook["id"]).stdout
    delivered = read(at(server, "webhooks", "deliveries", webhook["id"], "--status", "delivered", "--json"))
    assert delivered == {"deliveries": []}
    test = ("webhooks", "deliveries", webhook["id"], "--type", "webhook.test", "--code", "none", "--json")
    assert sent["id"] in at(server, *test, "--since", "2026-01-01").stdout
    assert read(at(server, *test, "--until", "2026-01-01")) == {"deliveries": []}
    attempts = read(at(server, "webhooks", "attempts", webhook["id"], sent["id"], "--json"))["attempts"]
    assert attempts[-1]["n"] == 1
    assert "waiting" in at(server, "webhooks", "health", webhook["id"]).stdout
    resent = read(at(server, "webhooks", "resend", webhook["id"], "--code", "none", "--dry-run", "--json"))
    assert (resent["queued"], resent["more"]) == (0, False)
    assert at(server, "webhooks", "recover", webhook["id"], "--since", "2026-01-01").stdout == "0 queued\n"
    missed = at(server, "webhooks", "replay-missing", webhook["id"], "--since", "2026-01-01", "--dry-run").stdout
    assert missed == "0 would be queued\n"
    assert at(server, "webhooks", "test", str(uuid4())).returncode == 3
    httpx.delete(f"{server.url}/api/webhooks/{webhook['id']}", headers=AUTH)


def test_the_audit_names_the_actor(server: Process) -> None:
    jti = str(uuid4())
    at(server, "revoke", jti, AITP_CP_API_KEY=OTHER_KEY)
    entries = read(at(server, "audit", "list", "--json", "--limit", "1000"))["entries"]
    (mine,) = [entry for entry in entries if entry["targetId"] == jti]
    assert mine["action"] == "revocation.add"
    assert read(at(server, "audit", "list", "--target", jti, "--json"))["entries"] == [mine]
    table = at(server, "audit", "list", "--limit", "1000").stdout
    (row,) = [line for line in table.splitlines() if jti in line]
    assert mine["actorId"] in row
    assert mine["requestId"] in row
    assert jti in at(server, "audit", "export", "--format", "csv", "--target", jti).stdout


def test_events_are_listed_with_who_reported_them(server: Process) -> None:
    agent, kind = enrolled(server), f"x.{uuid4().hex}"
    aid = httpx.get(f"{server.url}/api/health").json()["aid"]
    body = json.dumps([{"type": kind, "id": "1"}]).encode()
    url = f"{server.url}/api/events"
    assert httpx.post(url, content=body, headers=signed_by_library(agent, body, aid, url=url)).status_code == 200
    report(server, "r", type=kind)
    listed = read(at(server, "events", "list", "--type", kind, "--json"))["events"]
    assert [(event["proof"], event["reportedBy"]) for event in listed] == [
        ("shared-key", None),
        ("signature", agent.aid),
    ]
    for filter in (("--proof", "signature"), ("--reported-by", agent.aid)):
        assert read(at(server, "events", "list", "--type", kind, *filter, "--json"))["events"] == listed[1:]
    assert agent.aid in at(server, "events", "list", "--type", kind).stdout
    with started(
        server.url, "events", "tail", "--type", kind, "--proof", "signature", "--after", "0", "--json"
    ) as tail:
        assert tail.stdout
        assert json.loads(tail.stdout.readline()) == listed[1]
        tail.send_signal(signal.SIGTERM)
        assert tail.wait(20) == 143


def test_who_trusts_whom_and_what_needs_attention(server: Process) -> None:
    one, other = (enrolled(server, name=name) for name in (HOSTILE, "other"))
    tct = {"iss": one.aid, "sub": other.aid, "jti": str(uuid4()), "grants": ["g"], "iat": 1779710400, "exp": 1979710400}
    report(server, uuid4().hex, type="tct.issued", payload={"tct": tct})
    shown = read(at(server, "trust", "edges", other.aid, "--json"))
    response = httpx.get(f"{server.url}/api/trust/edges", params={"aid": other.aid}, headers=AUTH).json()
    assert shown == {**response, "asOf": shown["asOf"]}
    people = said(at(server, "trust", "edges", other.aid))
    assert f"trusts it {one.aid} {HARMLESS}" in people
    assert "blast radius 1 peers, 1 tokens, 0 agents by delegation, 0 more on the second hop" in people
    assert f"{other.aid} other active 1 1 0" in said(at(server, "trust", "edges"))
    lines = read(at(server, "attention", "--json"))
    assert {"lines", "unknown", "asOf"} == set(lines)
    assert at(server, "attention").stdout
