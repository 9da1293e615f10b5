"""Another application shares the database: nothing of its own is read, adopted or changed (rows 5, 14 and 15)."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from aitp_cp.db.migrations import HEAD, REVISIONS, CannotMigrate, SchemaAhead
from aitp_cp.db.migrations.run import upgrade
from aitp_cp.db.schema import TABLES, current_revision
from tests.cli.support import GOOD, run, said, shell
from tests.support.process import free_port

FOREIGN = (
    "CREATE TABLE public.agents (id integer PRIMARY KEY, name text)",
    "CREATE TABLE public.webhooks (id integer PRIMARY KEY, target text)",
)
DESCRIBED = """
SELECT table_name, column_name, data_type FROM information_schema.columns
WHERE table_schema = $1 ORDER BY table_name, ordinal_position
"""


def sql(dsn: str, *statements: str) -> list[Any]:
    """Each statement in turn; the rows of the last one."""

    async def run_all() -> list[Any]:
        conn = await asyncpg.connect(dsn)
        try:
            return [await conn.fetch(statement) for statement in statements][-1]
        finally:
            await conn.close()

    return asyncio.run(run_all())


def described(dsn: str, schema: str) -> list[tuple[str, str, str]]:
    return [tuple(row) for row in sql(dsn, DESCRIBED.replace("$1", f"'{schema}'"))]


def with_path(dsn: str, path: str) -> str:
    return f"{dsn}&search_path={path}"


def migrate(dsn: str) -> list[str]:
    return asyncio.run(upgrade(dsn))


def revision(dsn: str) -> str | None:
    async def ask() -> str | None:
        conn = await asyncpg.connect(dsn)
        try:
            return await current_revision(conn)
        finally:
            await conn.close()

    return asyncio.run(ask())


@contextmanager
def plain_role(dsn: str, *rights: str) -> Iterator[tuple[str, str]]:
    """A role that owns nothing and may connect, with `rights` granted; its name and its address."""
    role = f"plain_{uuid4().hex[:12]}"
    sql(dsn, f"CREATE ROLE {role} LOGIN", *(f"GRANT {right} TO {role}" for right in rights))
    try:
        yield role, re.sub("//[^@]*@", f"//{role}@", dsn)
    finally:
        sql(dsn, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_tables_of_another_application_in_the_search_path(empty_database_url: str) -> None:
    """Row 5: empty public.agents and public.webhooks with integer ids; own tables in aitp, nothing else touched."""
    sql(empty_database_url, *FOREIGN, "CREATE SCHEMA aitp")
    before = described(empty_database_url, "public")
    dsn = with_path(empty_database_url, "aitp,public")
    assert migrate(dsn) == list(REVISIONS)
    assert described(empty_database_url, "public") == before
    assert set(TABLES) <= {table for table, *_ in described(empty_database_url, "aitp")}
    assert migrate(dsn) == []
    checked = run("check", **GOOD, DATABASE_URL=dsn)
    assert (checked.returncode, f"ok schema at head ({HEAD})" in said(checked)) == (0, True), said(checked)


@pytest.mark.parametrize(
    ("statements", "sentence"),
    [
        (FOREIGN, "public.agents belongs to another application (its column aid is missing, not text)"),
        (("CREATE TABLE webhooks (id integer PRIMARY KEY)",), "its column id is integer, not uuid"),
        (("CREATE VIEW audit_events AS SELECT 1 AS id",), "public.audit_events is not a table"),
        (("CREATE TABLE log_horizon (id integer)",), "public.log_horizon belongs to another application"),
    ],
)
def test_a_table_that_is_not_ours_stops_before_the_first_change(
    empty_database_url: str, statements: tuple[str, ...], sentence: str
) -> None:
    """Row 5: a table is adopted only if its key fits; refused before anything is created, by migrate and by check."""
    sql(empty_database_url, *statements)
    before = described(empty_database_url, "public")
    with pytest.raises(CannotMigrate, match=re.escape(sentence)):
        migrate(empty_database_url)
    assert described(empty_database_url, "public") == before
    assert sentence in said(run("check", **GOOD, DATABASE_URL=empty_database_url))
    refused = run("migrate", DATABASE_URL=empty_database_url)
    assert (refused.returncode, sentence in said(refused)) == (3, True)


def test_a_schema_made_later_hides_no_tables(database_url: str) -> None:
    """Row 5: the tables are in public and a new schema comes first: no second, empty control plane is made."""
    sql(database_url, "CREATE SCHEMA aitp")
    try:
        dsn = with_path(database_url, "aitp,public")
        with pytest.raises(CannotMigrate, match="tables are in schema public, but the search path begins with aitp"):
            migrate(dsn)
        assert described(database_url, "aitp") == []
        refused = shell("serve", **GOOD, DATABASE_URL=dsn, HOST="127.0.0.1", PORT=str(free_port()))
        assert (refused.returncode, "tables are in schema public" in said(refused)) == (3, True)
    finally:
        sql(database_url, "DROP SCHEMA aitp")


def test_a_role_that_may_not_create(empty_database_url: str) -> None:
    """Row 14: check and migrate name the missing right, with the statement that grants it, instead of each other."""
    sql(empty_database_url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # as PostgreSQL 15 and later have it
    with plain_role(empty_database_url) as (role, dsn):
        grant = f"GRANT CREATE ON SCHEMA public TO {role}"
        for done in (run("check", **GOOD, DATABASE_URL=dsn), run("migrate", DATABASE_URL=dsn)):
            assert done.returncode in {1, 3}
            assert f"may not create tables in schema public: {grant}" in said(done)
        sql(empty_database_url, grant)
        assert run("migrate", DATABASE_URL=dsn).returncode == 0


def test_a_search_path_that_names_no_schema(empty_database_url: str) -> None:
    """Row 14: the search path names nothing that exists; the sentence says how to make a schema."""
    dsn = with_path(empty_database_url, "nowhere")
    for done in (run("check", **GOOD, DATABASE_URL=dsn), run("migrate", DATABASE_URL=dsn)):
        assert done.returncode in {1, 3}
        assert "no schema of the search path (nowhere) exists" in said(done)
        assert "CREATE SCHEMA aitp AUTHORIZATION postgres" in said(done)


def test_tables_of_another_role(database_url: str) -> None:
    """Row 14: the owner is named to a role that may use the tables but not change them."""
    sql(database_url, "UPDATE aitp_cp_version SET version_num = '0001_baseline'")
    rights = ("CREATE ON SCHEMA public", "ALL ON ALL TABLES IN SCHEMA public")
    try:
        with plain_role(database_url, *rights) as (_, dsn):
            refused = run("migrate", DATABASE_URL=dsn)
            assert "belongs to role postgres: run `aitp-cp migrate` as that role" in said(refused)
    finally:
        sql(database_url, f"UPDATE aitp_cp_version SET version_num = '{HEAD}'")


def version_table(dsn: str, number: str) -> None:
    sql(
        dsn,
        "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
        f"INSERT INTO alembic_version VALUES ('{number}')",
    )


def test_another_applications_version_table(empty_database_url: str) -> None:
    """Row 15: an alembic_version with a revision of somebody else's; migrate works beside it and leaves it alone."""
    version_table(empty_database_url, "ae1027a6acf")
    assert migrate(empty_database_url) == list(REVISIONS)
    assert [tuple(row) for row in sql(empty_database_url, "SELECT * FROM alembic_version")] == [("ae1027a6acf",)]
    assert revision(empty_database_url) == HEAD
    assert run("check", **GOOD, DATABASE_URL=empty_database_url).returncode == 0


@pytest.mark.parametrize("at", [HEAD, REVISIONS[8]])
def test_the_version_table_of_the_previous_version(empty_database_url: str, at: str) -> None:
    """Row 15: ours is adopted with its revision, and tells replicas of the version before that they are ready."""
    migrate(empty_database_url)
    sql(empty_database_url, "DROP TABLE aitp_cp_version")
    version_table(empty_database_url, at)
    assert revision(empty_database_url) == at
    assert migrate(empty_database_url) == list(REVISIONS[REVISIONS.index(at) + 1 :])
    assert [tuple(row) for row in sql(empty_database_url, "SELECT * FROM alembic_version")] == [(HEAD,)]
    assert [tuple(row) for row in sql(empty_database_url, "SELECT * FROM aitp_cp_version")] == [(HEAD,)]


def test_a_newer_revision_is_still_refused(empty_database_url: str) -> None:
    """Row 15: an unknown revision in the table of our own name is a newer version of ours."""
    migrate(empty_database_url)
    sql(empty_database_url, "UPDATE aitp_cp_version SET version_num = '9999_from_the_future'")
    with pytest.raises(SchemaAhead):
        migrate(empty_database_url)
