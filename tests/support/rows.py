"""What the database really holds, past any answer."""

from typing import Any

from tests.support.app import App

TABLES = ("agents", "audit_events", "admin_audit_log", "webhook_deliveries", "enrollment_jtis", "idempotency_keys")


async def counts(app: App) -> dict[str, int]:
    """How many rows each table of an enrolment has; tables without any are left out."""
    found = {table: await value(app, f"SELECT count(*) FROM {table}") for table in TABLES}
    return {table: count for table, count in found.items() if count}


async def value(app: App, query: str, *args: Any) -> Any:
    async with app.rt.db.connection() as conn:
        return await conn.fetchval(query, *args)


async def execute(app: App, statement: str, *args: Any) -> None:
    async with app.rt.db.connection() as conn:
        await conn.execute(statement, *args)


async def subscribe(app: App) -> None:
    """A webhook that wants everything and can be reached by nobody."""
    await execute(
        app,
        "INSERT INTO webhooks (id, url, events, secret, active, sees_after)"
        " SELECT gen_random_uuid(), 'https://hooks.example/', '[]', 's', true, max(seq) FROM audit_events",
    )


async def break_inserts(app: App, table: str) -> None:
    """From now on no row gets into this table."""
    await execute(
        app,
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'secret reason of the database'; END $$",
    )
    await execute(app, f"CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()")


async def mend_inserts(app: App, table: str) -> None:
    await execute(app, f"DROP TRIGGER refuse ON {table}")
