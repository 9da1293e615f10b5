import importlib

import asyncpg
import pytest

from aitp_cp.db.migrations import REVISIONS
from aitp_cp.db.migrations.run import upgrade
from tests.migrations import existing
from tests.migrations.introspect import Description, describe

pytestmark = pytest.mark.anyio

BASELINE = importlib.import_module("aitp_cp.db.migrations.versions.0001_baseline")

# What deployments that stopped at an older migration, or were mended by hand, may lack.
HALF_MADE = (
    "DROP TABLE webhook_deliveries",
    "DROP TABLE pinned_keys",
    "DROP TABLE enrollment_jtis",
    "ALTER TABLE agents DROP COLUMN namespace, DROP COLUMN last_enrolled_at, DROP COLUMN metadata",
    "ALTER TABLE admin_audit_log DROP COLUMN request_id",
    "DROP INDEX sessions_status_idx",
    "DROP INDEX issued_tcts_grants_gin",
    "DROP INDEX trust_anchors_namespace_issuer_uniq",
    "ALTER TABLE idempotency_keys DROP CONSTRAINT idempotency_keys_scope_key_pk",
)


async def test_every_row_and_every_index_stays(existing_url: str, conn: asyncpg.Connection) -> None:
    await existing.add_events(conn, 500)
    rows, before = await existing.rows(conn), await describe(conn)
    assert all(rows.values())
    assert await upgrade(existing_url) == list(REVISIONS)
    after = await describe(conn)
    assert await existing.rows(conn) == rows
    for kind, described in before.items():
        assert set(described) <= set(after[kind])


async def test_an_adopted_database_equals_a_fresh_one(
    existing_url: str, conn: asyncpg.Connection, database_url: str
) -> None:
    await upgrade(existing_url)
    assert_equal_but_for_indexes(await describe(conn), await _describe_at(database_url))


async def test_a_half_made_database_is_completed(
    existing_url: str, conn: asyncpg.Connection, database_url: str
) -> None:
    for statement in HALF_MADE:
        await conn.execute(statement)
    agents = "SELECT aid, display_name, manifest_json FROM agents ORDER BY aid"
    before = await conn.fetch(agents)
    await upgrade(existing_url)
    assert await conn.fetch(agents) == before
    assert {row["namespace"] for row in await conn.fetch("SELECT namespace FROM agents")} == {"default"}
    assert_equal_but_for_indexes(await describe(conn), await _describe_at(database_url))


async def test_deliveries_without_their_webhook_are_kept(existing_url: str, conn: asyncpg.Connection) -> None:
    await conn.execute("ALTER TABLE webhook_deliveries DROP CONSTRAINT webhook_deliveries_webhook_id_webhooks_id_fk")
    await conn.execute("DELETE FROM webhooks WHERE id = (SELECT min(webhook_id::text)::uuid FROM webhook_deliveries)")
    count = await conn.fetchval("SELECT count(*) FROM webhook_deliveries")
    await upgrade(existing_url)
    assert await conn.fetchval("SELECT count(*) FROM webhook_deliveries") == count
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await conn.execute(
            "INSERT INTO webhook_deliveries (id, webhook_id, event_type, payload) "
            "VALUES (gen_random_uuid(), gen_random_uuid(), 'tct.revoked', '{}')"
        )


async def test_an_older_control_plane_can_go_on_writing(existing_url: str, conn: asyncpg.Connection) -> None:
    await upgrade(existing_url)
    before = await existing.rows(conn)
    for table in existing.COLUMNS:
        await conn.execute(f"TRUNCATE {table} CASCADE")
    await existing.fill(conn)
    assert {table: len(rows) for table, rows in (await existing.rows(conn)).items()} == {
        table: len(rows) for table, rows in before.items()
    }


async def test_a_type_or_default_made_by_hand_is_left_alone(existing_url: str, conn: asyncpg.Connection) -> None:
    await conn.execute("ALTER TABLE agents ALTER COLUMN org TYPE text, ADD COLUMN house_note text DEFAULT 'mine'")
    await upgrade(existing_url)
    columns = {(table, name): (kind, default) for table, name, kind, _, default in (await describe(conn))["columns"]}
    assert columns["agents", "org"] == ("text", "")
    assert columns["agents", "house_note"] == ("text", "'mine'::text")


def assert_equal_but_for_indexes(adopted: Description, fresh: Description) -> None:
    """An adopted database keeps the indexes of its past, which a fresh one has no use for."""
    assert {row[1] for row in adopted["indexes"]} - {row[1] for row in fresh["indexes"]} == set(BASELINE.EXTENDED_BY)
    adopted["indexes"] = [row for row in adopted["indexes"] if row[1] not in BASELINE.EXTENDED_BY]
    assert adopted == fresh


async def _describe_at(dsn: str) -> Description:
    conn = await asyncpg.connect(dsn)
    try:
        return await describe(conn)
    finally:
        await conn.close()
