"""The commands that look, make and mend."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from typer.main import get_command

from aitp_cp.db.migrations import HEAD, REVISIONS
from aitp_cp.db.schema import SEQUENCES, TABLES
from aitp_cp_client.commands.main import app
from tests.cli.support import GOOD, run, said, shell
from tests.support.app import SECRET
from tests.support.process import free_port


def execute(dsn: str, *statements: str) -> list[Any]:
    """Each statement in turn; the rows of the last one."""

    async def run_all() -> list[Any]:
        conn = await asyncpg.connect(dsn)
        try:
            return [await conn.fetch(statement) for statement in statements][-1]
        finally:
            await conn.close()

    return asyncio.run(run_all())


def set_revision(dsn: str, revision: str) -> None:
    execute(dsn, f"UPDATE aitp_cp_version SET version_num = '{revision}'")


def test_the_command_introduces_itself() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", shell("--version").stdout)
    help = said(run("--help"))
    for command in ("serve", "dev", "migrate", "check", "keygen", "openapi"):
        assert f" {command} " in help
    assert run("no-such-command").returncode != 0


def documented(command: Any, name: str = "aitp-cp") -> Iterator[tuple[str, str | None]]:
    """The command, its options and arguments, and all below it, each with its help."""
    yield name, command.help
    yield from ((f"{name} {param.opts[0]}", param.help) for param in command.params)
    for below, commands in getattr(command, "commands", {}).items():
        yield from documented(commands, f"{name} {below}")


def test_everything_that_can_be_asked_says_what_it_does() -> None:
    found = dict(documented(get_command(app)))
    assert len(found) > 60
    assert [name for name, help in found.items() if not help] == []


def test_fresh_keys_are_a_usable_environment(database_url: str) -> None:
    made = run("keygen")
    assert made.returncode == 0
    keys = dict(line.split("=", 1) for line in made.stdout.splitlines())
    assert set(keys) == {"CP_AID_SEED_HEX", "ENROLLMENT_SECRET", "API_KEYS"}
    assert re.fullmatch(r"[0-9a-f]{64}", keys["CP_AID_SEED_HEX"])
    assert len(keys["ENROLLMENT_SECRET"]) >= 32
    checked = run("check", **GOOD | keys, DATABASE_URL=database_url)
    assert checked.returncode == 0, said(checked)
    assert run("keygen").stdout != made.stdout


def test_all_is_well(database_url: str) -> None:
    checked = run("check", **GOOD, DATABASE_URL=database_url)
    assert checked.returncode == 0
    assert "fail" not in said(checked)
    for finding in (
        "ok settings",
        "ok open files",
        "ok database PostgreSQL",
        f"ok schema at head ({HEAD})",
        "ok permissions the role may read, write and migrate",
        "ok clock",
        "ok connections",
        "ok notifications arrive",
        "ok encryption",
    ):
        assert finding in said(checked)


@pytest.mark.parametrize(
    "variable", ["CORS_ORIGIN", "API_KEYS", "CP_AID_SEED_HEX", "ENROLLMENT_SECRET", "DATABASE_URL"]
)
@pytest.mark.parametrize("production", [{"CP_ENV": "production"}, {"CP_ENV": "", "NODE_ENV": "production"}])
def test_production_without_one_of_these_fails(database_url: str, variable: str, production: dict[str, Any]) -> None:
    good = GOOD | {"DATABASE_URL": database_url} | production
    checked = run("check", **good | {variable: ""})
    assert checked.returncode == 1
    assert "fail" in said(checked)
    assert variable in said(checked)


def test_every_wrong_variable_is_named_at_once() -> None:
    checked = run("check", **GOOD | {"PORT": "ninety", "ENROLLMENT_SECRET": "short", "CP_AID_SEED_HEX": "zz"})
    assert checked.returncode == 1
    for variable in ("PORT", "ENROLLMENT_SECRET", "CP_AID_SEED_HEX", "DATABASE_URL"):
        assert variable in said(checked)
    assert "ninety" not in said(checked)


def test_development_may_lack_them_and_is_told_so(database_url: str) -> None:
    lacking = {"CP_ENV": "development", "ENROLLMENT_SECRET": SECRET, "DATABASE_URL": database_url}
    checked = run("check", **lacking)
    assert checked.returncode == 0
    for variable in ("CORS_ORIGIN", "API_KEYS", "CP_AID_SEED_HEX"):
        assert f"warn {variable}" in said(checked)


def test_a_database_that_cannot_be_reached() -> None:
    address = "postgresql://user:pass-canary@127.0.0.1:9/none"
    checked = run("check", **GOOD, DATABASE_URL=address)
    assert checked.returncode == 1
    assert "fail database cannot be reached" in said(checked)
    assert "canary" not in said(checked)


def test_a_role_that_may_not_write_and_a_database_that_takes_no_writes(database_url: str) -> None:
    role = f"reader_{uuid4().hex}"
    execute(
        database_url,
        f"CREATE ROLE {role} LOGIN PASSWORD '{role}'",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
    )
    reader = re.sub("//[^@]*@", f"//{role}:{role}@", database_url)
    try:
        refused = run("check", **GOOD, DATABASE_URL=reader)
        assert refused.returncode == 1
        assert "fail permissions the role may not read and write " in said(refused)
        assert "admin_audit_log, agent" in said(refused)
        assert "audit_events_seq" in said(refused)
        execute(
            database_url,
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
            f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}",
        )
        allowed = run("check", **GOOD, DATABASE_URL=reader)
        assert allowed.returncode == 0
        assert "info permissions the role may read and write, but not migrate: " in said(allowed)
        execute(database_url, f"ALTER ROLE {role} SET default_transaction_read_only = on")
        assert "takes no writes" in said(run("check", **GOOD, DATABASE_URL=reader))
    finally:
        execute(database_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_more_connections_than_there_are(database_url: str) -> None:
    checked = run("check", **GOOD, DATABASE_URL=database_url, DB_POOL_MAX="1000")
    assert (checked.returncode, "fail connections" in said(checked)) == (1, True)


@pytest.mark.parametrize(
    ("variables", "finding"),
    [
        ({"CP_BASE_URL": "http://localhost:4000"}, "warn CP_BASE_URL names this machine only"),
        ({"CP_BASE_URL": "http://cp.example"}, "warn CP_BASE_URL is not https"),
        ({"API_KEYS": "a-key-of-25-characters-xy"}, "warn API_KEYS holds a key of fewer than 32 characters"),
        ({"MAX_SSE_CONNECTIONS": "2000000000"}, "warn open files the limit is"),
    ],
)
def test_what_is_allowed_and_unwise_is_said(database_url: str, variables: dict[str, Any], finding: str) -> None:
    checked = run("check", **GOOD | variables, DATABASE_URL=database_url)
    assert checked.returncode == 0
    assert finding in said(checked)


def test_a_secret_that_everyone_can_read_is_said(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    given = {**GOOD, "ENROLLMENT_SECRET": "", "ENROLLMENT_SECRET_FILE": str(file), "DATABASE_URL": database_url}
    for mode, is_said in ((0o644, True), (0o640, False)):
        file.chmod(mode)
        checked = run("check", **given)
        assert checked.returncode == 0
        assert ("warn ENROLLMENT_SECRET_FILE can be read by every user" in said(checked)) is is_said


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("postgresql://u:pass-canary@127.0.0.1:9/none", "cannot be reached: nothing listens at its address"),
        ("postgresql://u:pass-canary@no-such-host.invalid/none", "cannot be reached: its host name does not resolve"),
        ("", "refuses: the server has no database of that name"),
    ],
)
def test_why_a_database_cannot_be_reached(database_url: str, address: str, reason: str) -> None:
    nowhere = re.sub(r"/test_\w+", "/no-such-database", database_url)
    checked = run("check", **GOOD, DATABASE_URL=address or nowhere)
    assert checked.returncode == 1
    assert f"fail database {reason}" in said(checked)
    assert "canary" not in said(checked)


def test_the_tables_that_are_examined_are_those_there_are(database_url: str) -> None:
    found = execute(
        database_url,
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S')",
    )
    assert {name for (name,) in found} == {*TABLES, *SEQUENCES, "aitp_cp_version"}


def test_a_schema_that_is_behind_or_ahead(database_url: str, empty_database_url: str) -> None:
    empty = run("check", **GOOD, DATABASE_URL=empty_database_url)
    assert empty.returncode == 1
    assert "run `aitp-cp migrate`" in said(empty)
    set_revision(database_url, REVISIONS[0])
    behind = run("check", **GOOD, DATABASE_URL=database_url)
    assert (behind.returncode, "run `aitp-cp migrate`" in said(behind)) == (1, True)
    set_revision(database_url, "9999_from_the_future")
    ahead = run("check", **GOOD, DATABASE_URL=database_url)
    assert ahead.returncode == 1
    assert "fail schema ahead" in said(ahead)


def test_migrating_an_empty_database_and_again(empty_database_url: str) -> None:
    first = run("migrate", **GOOD, DATABASE_URL=empty_database_url)
    assert first.returncode == 0, said(first)
    for revision in REVISIONS:
        assert revision in first.stdout
    again = run("migrate", **GOOD, DATABASE_URL=empty_database_url)
    assert (again.returncode, again.stdout) == (0, "schema at head, nothing to do\n")
    assert run("check", **GOOD, DATABASE_URL=empty_database_url).returncode == 0


def test_a_schema_that_is_ahead_is_not_touched(database_url: str) -> None:
    set_revision(database_url, "9999_from_the_future")
    refused = run("migrate", **GOOD, DATABASE_URL=database_url)
    assert refused.returncode not in {0, 1}
    assert "9999_from_the_future" in refused.stderr
    assert "deploy the version that migrated it" in refused.stderr


def test_migrating_what_is_not_there() -> None:
    refused = shell("migrate", **GOOD, DATABASE_URL="postgresql://user:pass-canary@127.0.0.1:9/none")
    assert refused.returncode not in {0, 1}
    assert "DATABASE_URL" in refused.stderr
    assert "canary" not in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_role_that_may_not_and_a_schema_that_is_not_there_take_one_sentence(
    database_url: str, empty_database_url: str
) -> None:
    role = f"stranger_{uuid4().hex}"
    execute(database_url, f"CREATE ROLE {role} LOGIN PASSWORD '{role}'")
    execute(empty_database_url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # as PostgreSQL 15 and later have it

    def refusal(command: str, dsn: str) -> str:
        refused = shell(*command.split(), **GOOD, DATABASE_URL=dsn, HOST="127.0.0.1", PORT=str(free_port()))
        assert refused.returncode not in {0, 1}
        assert "Traceback" not in refused.stderr
        return said(refused)

    try:
        may_not = [re.sub("//[^@]*@", f"//{role}:{role}@", dsn) for dsn in (database_url, empty_database_url)]
        assert "the role lacks a right (InsufficientPrivilegeError)" in refusal("serve", may_not[0])
        assert f"the role {role} may not create tables in schema public" in refusal("migrate", may_not[1])
        assert "a table is missing (UndefinedTableError)" in refusal("retention run", empty_database_url)
    finally:
        execute(database_url, f"DROP ROLE {role}")


def test_the_document_is_printed() -> None:
    printed = run("openapi")
    assert (printed.returncode, printed.stderr) == (0, "")
    document = json.loads(printed.stdout)
    assert document["openapi"] == "3.1.0"
    assert "/api/registry/enroll" in document["paths"]
