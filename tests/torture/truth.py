"""What is really there once everything is calm: every table, and the list as each replica serves it."""

import json
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx

from tests.support.app import AUTH

Row = dict[str, Any]

_QUERIES = {
    "events": """SELECT seq, id::text, type, aid_a, aid_b, session_id, run_id, grants, source,
                        payload - 'padding' AS payload, reported_by, proof
                 FROM audit_events ORDER BY seq NULLS LAST""",
    "sessions": "SELECT session_id, aid_a, aid_b, status, grants, run_id, error FROM handshake_sessions",
    "tcts": "SELECT jti::text, issuer_aid, subject_aid, revoked, coalesce(verdict, 'none') AS verdict FROM issued_tcts",
    "delegations": "SELECT jti::text, parent_jti::text, revoked, revoked_reason FROM delegations",
    "entries": "SELECT jti::text, revoked_at, reason FROM revocation_entries",
    "agents": "SELECT aid, status FROM agents",
    "webhooks": "SELECT id::text, url, events, active, deleted_at FROM webhooks",
    "deliveries": """SELECT id::text, webhook_id::text, event_id::text, event_type, status, attempts, error
                     FROM webhook_deliveries""",
    "audit": "SELECT action, target_id, actor_id, details FROM admin_audit_log",
    "anchors": "SELECT id::text, issuer_url FROM trust_anchors",
    "keys": "SELECT scope, key FROM idempotency_keys",
    "api_keys": """SELECT id::text, family::text, name, created_by, replaced_by::text, revoked_at IS NOT NULL AS revoked
                   FROM api_keys""",
    "sign_ins": "SELECT encode(digest, 'hex') AS digest, subject, ended_by FROM console_sessions",
    "containments": """SELECT id::text, aid, released_at IS NOT NULL AS released, remaining, pending, claimed_only,
                              later_listed
                       FROM containments""",
    "counts": "SELECT coalesce(sum(count), 0)::int AS invocations FROM capability_counts",
}
_JSON = {"grants", "payload", "events", "details"}


@dataclass
class Truth:
    events: list[Row] = field(default_factory=list)
    sessions: list[Row] = field(default_factory=list)
    tcts: list[Row] = field(default_factory=list)
    delegations: list[Row] = field(default_factory=list)
    entries: list[Row] = field(default_factory=list)
    agents: list[Row] = field(default_factory=list)
    webhooks: list[Row] = field(default_factory=list)
    deliveries: list[Row] = field(default_factory=list)
    audit: list[Row] = field(default_factory=list)
    anchors: list[Row] = field(default_factory=list)
    keys: list[Row] = field(default_factory=list)
    counts: list[Row] = field(default_factory=list)
    api_keys: list[Row] = field(default_factory=list)
    sign_ins: list[Row] = field(default_factory=list)
    containments: list[Row] = field(default_factory=list)
    doors: list[Row] = field(default_factory=list)  # what each replica says to keys and sessions, once all is calm
    lists: list[Row] = field(default_factory=list)
    reach: list[Row] = field(default_factory=list)  # of each containment, with its id

    @property
    def last(self) -> int:
        return max((row["seq"] for row in self.events if row["seq"] is not None), default=0)


async def read(dsn: str, ports: list[int]) -> Truth:
    conn = await asyncpg.connect(dsn)
    try:
        found = {name: [_row(row) for row in await conn.fetch(query)] for name, query in _QUERIES.items()}
    finally:
        await conn.close()
    return Truth(**found, lists=[await read_list(port) for port in ports])


async def read_list(port: int) -> Row:
    """The signed list of one replica."""
    async with httpx.AsyncClient() as http:
        response = await http.get(f"http://127.0.0.1:{port}/.well-known/aitp-revocation-list", timeout=20)
    document: Row = response.raise_for_status().json()
    return document


async def read_reach(port: int, ids: list[str]) -> list[Row]:
    """How far each containment has reached."""
    url = f"http://127.0.0.1:{port}/api/containments"
    async with httpx.AsyncClient(headers=AUTH, timeout=20) as http:
        return [{**(await http.get(f"{url}/{id}/reach")).raise_for_status().json(), "id": id} for id in ids]


def _row(row: asyncpg.Record) -> Row:
    return {name: json.loads(value) if name in _JSON and value is not None else value for name, value in row.items()}
