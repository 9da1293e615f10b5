"""aitp-cp keys on a database, and what `check` says of keys."""

import json
from typing import Any
from uuid import uuid4

import pytest

from aitp_cp.protocol.scopes import ROLES, Role, in_order
from tests.cli.support import GOOD, Done, run, said
from tests.cli.test_commands import execute, set_revision
from tests.support.process import free_port


def created(dsn: str, *options: str) -> dict[str, Any]:
    done = run("keys", "create", *options, "--json", DATABASE_URL=dsn)
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def check(dsn: str, **variables: str) -> Done:
    return run("check", **{**GOOD, **variables, "DATABASE_URL": dsn})


def test_the_first_key_needs_none(database_url: str) -> None:
    assert "fail API keys none in the database" in said(check(database_url, API_KEYS=""))
    made = run("keys", "create", "first", "--role", "admin", DATABASE_URL=database_url, AITP_CP_URL="http://not.asked")
    key = made.stdout.removesuffix("\n")
    assert (made.returncode, len(key), key in made.stderr) == (0, 43, False)
    (row,) = json.loads(run("keys", "list", "--json", DATABASE_URL=database_url).stdout)["keys"]
    assert (row["name"], row["scopes"], row["createdBy"]) == ("first", list(in_order(ROLES[Role.ADMIN])), "cli")
    assert row["id"] in made.stderr
    (entry,) = execute(database_url, "SELECT action, actor_id, details::text FROM admin_audit_log")
    assert (entry[0], entry[1], key in entry[2]) == ("key.create", "cli", False)
    well = check(database_url, API_KEYS="")
    assert (well.returncode, "ok API keys 1 in the database" in said(well)) == (0, True)


def test_rotating_and_revoking(database_url: str) -> None:
    old = created(database_url, "job", "--scope", "events:read", "--scope", "events:write", "--expires", "30d")
    made = run("keys", "rotate", old["id"], "--overlap", "5s", "--json", DATABASE_URL=database_url)
    fresh = json.loads(made.stdout)
    assert (fresh["family"], fresh["scopes"]) == (old["family"], ["events:read", "events:write"])
    assert fresh["expiresAt"] == old["expiresAt"]
    revoked = run("keys", "revoke", old["id"], "--family", "--reason", "leaked", DATABASE_URL=database_url)
    assert set(revoked.stdout.splitlines()) == {f"revoked {old['id']}", f"revoked {fresh['id']}"}
    types = [row[0] for row in execute(database_url, "SELECT type FROM audit_events ORDER BY seq")]
    assert types == ["apikey.created", "apikey.rotated", "apikey.revoked", "apikey.revoked"]
    refused = run("keys", "rotate", fresh["id"], DATABASE_URL=database_url)
    assert (refused.returncode, "KEY_NOT_ACTIVE" in refused.stderr) == (1, True)
    assert run("keys", "revoke", str(uuid4()), DATABASE_URL=database_url).returncode == 3
    endless = run("keys", "revoke", old["id"], "--reason", "r" * 501, DATABASE_URL=database_url)
    assert (endless.returncode, "at most 500 characters" in endless.stderr) == (1, True)


def test_a_key_acts_as_the_one_that_it_replaces(database_url: str) -> None:
    adopted = created(database_url, "from before", "--role", "operator", "--adopt", "apikey:0123456789abcdef")
    assert adopted["actor"] == "apikey:0123456789abcdef"


def test_a_database_that_is_not_ready_for_keys(database_url: str) -> None:
    set_revision(database_url, "0001_baseline")
    behind = run("keys", "list", DATABASE_URL=database_url)
    assert (behind.returncode, "aitp-cp migrate" in behind.stderr) == (1, True)
    set_revision(database_url, "9999_future")
    assert "newer than this version" in run("keys", "list", DATABASE_URL=database_url).stderr
    away = run("keys", "list", DATABASE_URL=f"postgresql://u:canary@127.0.0.1:{free_port()}/x")
    assert (away.returncode, "canary" in away.stderr) == (5, False)


@pytest.mark.parametrize("wrong", [("a\x1bb", "--role", "admin"), ("x", "--role", "admin", "--expires", "2020-01-01")])
def test_the_service_decides_what_a_key_may_be(database_url: str, wrong: tuple[str, ...]) -> None:
    refused = run("keys", "create", *wrong, DATABASE_URL=database_url)
    assert (refused.returncode, refused.stdout, "BODY_INVALID" in refused.stderr) == (1, "", True)


def test_check_names_keys_that_end_or_should(database_url: str) -> None:
    told = said(check(database_url))
    assert "ok API keys 1 in API_KEYS, none in the database" in told
    assert "ok key expiry no key expires within 14 days" in told
    soon = created(database_url, "soon", "--role", "auditor", "--expires", "13d")
    created(database_url, "later", "--role", "auditor", "--expires", "15d")
    rotated = created(database_url, "rotated", "--role", "auditor")
    assert run("keys", "rotate", rotated["id"], DATABASE_URL=database_url).returncode == 0
    checked = check(database_url)
    told = said(checked)
    assert checked.returncode == 0
    assert "warn API keys API_KEYS is still set beside 4 in the database" in told
    assert f"warn key expiry expire within 14 days, create new keys: soon ({soon['id']}) at {soon['expiresAt']}" in told
    assert "later" not in told
    assert "rotated" not in told


def test_check_says_who_may_administer_the_console(database_url: str) -> None:
    assert "warn console neither CP_BASE_URL nor CONSOLE_ORIGIN is https" in said(check(database_url))
    https = {"CP_BASE_URL": "https://cp.example"}
    assert "ok console sign-in by API key" in said(check(database_url, **https))
    assert "warn console nobody may administer it" in said(check(database_url, **https, API_KEYS=""))
    created(database_url, "ana", "--role", "admin")
    assert "ok console sign-in by API key" in said(check(database_url, **https, API_KEYS=""))
    assert "ok console is switched off" in said(check(database_url, CONSOLE_ENABLED="false"))


def test_check_fails_for_a_weak_key_that_is_let_pass(database_url: str) -> None:
    weak = check(database_url, API_KEYS="short", API_KEYS_ALLOW_WEAK="true")
    assert (weak.returncode, "API_KEYS_ALLOW_WEAK lets it pass" in said(weak)) == (1, True)
