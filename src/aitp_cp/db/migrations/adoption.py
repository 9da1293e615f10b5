"""Check a schema before the first change: are its tables the control plane's, and may the role change them?"""

from collections.abc import Mapping

import asyncpg

from aitp_cp.db.schema import VERSION_TABLE

# Key columns and their types. Another application's table with one of these names has others.
KEYS: Mapping[str, Mapping[str, str]] = {
    "admin_audit_log": {"id": "uuid"},
    "agents": {"aid": "text"},
    "audit_events": {"id": "uuid"},
    "capability_counts": {"bucket": "timestamp with time zone", "capability": "text"},
    "delegation_parents": {"jti": "uuid", "parent_jti": "uuid"},
    "delegations": {"jti": "uuid"},
    "enrollment_jtis": {"jti": "text"},
    "handshake_sessions": {"session_id": "text"},
    "idempotency_keys": {"scope": "text", "key": "text"},
    "invocation_counts": {"bucket": "timestamp with time zone", "capability": "text"},
    "invocation_progress": {"only_row": "boolean"},
    "issued_tcts": {"jti": "uuid"},
    "log_horizon": {"only_row": "boolean"},
    "pinned_keys": {"namespace": "text", "aid": "text"},
    "revocation_entries": {"jti": "uuid"},
    "revoked_reports": {"jti": "uuid"},
    "trust_anchors": {"id": "uuid"},
    "webhook_deliveries": {"id": "uuid"},
    "webhooks": {"id": "uuid"},
    VERSION_TABLE: {"version_num": "text"},
}

# Types without their length; all kinds of text count as one, because some were changed by hand.
_COLUMNS = """
SELECT c.relname, c.relkind::text AS kind, a.attname,
       regexp_replace(format_type(a.atttypid, NULL), '^character( varying)?$', 'text') AS type,
       pg_get_userbyid(c.relowner)::text AS owner, pg_has_role(c.relowner, 'USAGE') AS may_alter
FROM pg_class AS c LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = current_schema()::regnamespace AND c.relname = ANY($1)
"""
_IS_TABLE = {"r", "p"}

_SCHEMA = """
SELECT current_schema(), current_user, current_setting('search_path'),
       has_schema_privilege(current_schema(), 'CREATE') AS may_create
"""

# No other application is likely to have all of these.
_SIGNATURE = ["audit_events", "handshake_sessions", "issued_tcts", "revocation_entries"]
# The schema of the search path, if any, that holds a control plane's tables.
_HOME = """
SELECT nspname::text, nspname = current_schema() AS first FROM pg_namespace
WHERE nspname = ANY(current_schemas(false)) AND (
    SELECT count(*) FROM pg_class WHERE relnamespace = pg_namespace.oid AND relname = ANY($1)
) = cardinality($1)
ORDER BY array_position(current_schemas(false), nspname) LIMIT 1
"""


async def obstacle(conn: asyncpg.Connection) -> str | None:
    """Return why the schema cannot be migrated, with the statement that helps; None when it can."""
    schema, role, path, may_create = tuple(await conn.fetchrow(_SCHEMA) or ())
    if schema is None:
        return (
            f"no schema of the search path ({path}) exists for this role: CREATE SCHEMA aitp AUTHORIZATION {role}, "
            f"and ALTER ROLE {role} SET search_path = aitp"
        )
    if not may_create:
        return f"the role {role} may not create tables in schema {schema}: GRANT CREATE ON SCHEMA {schema} TO {role}"
    return await misplaced(conn) or await _foreign_table(conn, schema)


async def misplaced(conn: asyncpg.Connection) -> str | None:
    """Return a sentence when the control plane's tables are in a later schema of the search path, not in the first."""
    home = await conn.fetchrow(_HOME, _SIGNATURE)
    if home is None or home["first"]:
        return None
    schema = await conn.fetchval("SELECT current_schema()")
    return (
        f"a control plane's tables are in schema {home['nspname']}, but the search path begins with {schema}: "
        f"name the one to use alone, as in ALTER ROLE … SET search_path = {home['nspname']}"
    )


async def _foreign_table(conn: asyncpg.Connection, schema: str) -> str | None:
    tables: dict[str, dict[str, str]] = {}
    for row in await conn.fetch(_COLUMNS, list(KEYS)):
        tables.setdefault(row["relname"], {})[row["attname"] or ""] = row["type"] or ""
        if row["kind"] not in _IS_TABLE:
            return f"{schema}.{row['relname']} is not a table: use a schema of the control plane's own"
        if not row["may_alter"]:
            return f"table {schema}.{row['relname']} belongs to role {row['owner']}: run `aitp-cp migrate` as that role"
    for table, columns in tables.items():
        for column, expected in KEYS[table].items():
            if columns.get(column) != expected:
                actual = columns.get(column, "missing")
                return (
                    f"table {schema}.{table} belongs to another application (its column {column} is {actual}, not "
                    f"{expected}): use a schema of the control plane's own, first in the role's search_path"
                )
    return None
