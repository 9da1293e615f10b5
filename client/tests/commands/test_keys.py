"""aitp-cp keys at a server."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx

from client.tests.commands.support import at, read
from tests.cli.support import said
from tests.support.process import Process


def test_a_key_from_its_creation_to_its_end(server: Process) -> None:
    created = at(server, "keys", "create", "a reporter", "--role", "reporter", "--expires", "2h", "--rate", "40")
    assert created.returncode == 0, created.stderr
    key = created.stdout.removesuffix("\n")
    assert len(key) == 43
    assert key not in created.stderr
    assert "a reporter: key " in created.stderr
    (row,) = [row for row in read(at(server, "keys", "list", "--json"))["keys"] if row["name"] == "a reporter"]
    assert (row["scopes"], row["ratePerMin"], row["state"]) == (["events:write"], 40, "active")
    ends = datetime.fromisoformat(row["expiresAt"])
    assert abs(ends - datetime.now(UTC) - timedelta(hours=2)) < timedelta(minutes=1)
    assert row["id"] in created.stderr

    refused = at(server, "keys", "list", AITP_CP_API_KEY=key)
    assert (refused.returncode, refused.stdout) == (4, "")
    assert "SCOPE_MISSING" in refused.stderr
    assert "keys:admin" in refused.stderr

    fresh = read(at(server, "keys", "rotate", row["id"], "--overlap", "1h", "--json"))
    assert (fresh["family"], fresh["expiresAt"]) == (row["family"], row["expiresAt"])
    revoked = at(server, "keys", "revoke", fresh["id"], "--family", "--reason", "a test")
    assert set(revoked.stdout.splitlines()) == {f"revoked {row['id']}", f"revoked {fresh['id']}"}
    again = at(server, "keys", "revoke", fresh["id"])
    assert (again.returncode, again.stdout) == (0, f"revoked before {fresh['id']}\n")
    assert fresh["id"] in at(server, "keys", "list", "--state", "revoked").stdout
    assert at(server, "keys", "rotate", fresh["id"]).returncode == 1
    headers = {"Authorization": f"Bearer {fresh['key']}"}
    assert httpx.get(f"{server.url}/api/whoami", headers=headers).json()["code"] == "API_KEY_REVOKED"
    assert "a reporter" in said(at(server, "audit", "list"))


def test_what_cannot_be_is_wrong_usage(server: Process) -> None:
    for wrong in (
        ("create", "x"),
        ("create", "x", "--role", "reporter", "--scope", "events:read"),
        ("create", "x", "--role", "root"),
        ("create", "x", "--role", "reporter", "--expires", "soon"),
        ("create", "x", "--role", "reporter", "--adopt", "apikey:short"),
        ("create", "x", "--role", "reporter", "--adopt", "apikey:0123456789abcdef"),  # needs the database
        ("rotate", str(uuid4()), "--overlap", "5"),
        ("revoke", "no-id"),
    ):
        refused = at(server, "keys", *wrong)
        assert (refused.returncode, refused.stdout) == (2, ""), (wrong, refused)
    unknown = at(server, "keys", "create", "x", "--scope", "events:rwad")
    assert (unknown.returncode, "events:rwad" in unknown.stderr) == (1, True)
    assert at(server, "keys", "revoke", str(uuid4())).returncode == 3
