"""The kit detects violations: each lie fails the checks whose sentences it breaks; true responses pass."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from aitp_cp_conformance.catalogue import CHECKS
from aitp_cp_conformance.model import Options, Report
from aitp_cp_conformance.runner import run
from conformance.tests.liar import Lie, Reply, lying, truth
from tests.support.app import API_KEY, AUTH
from tests.support.postgres import migrated_database
from tests.support.process import Process
from tests.support.waiting import eventually

BY_NAME = {check.name: check for check in CHECKS}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with migrated_database() as dsn, Process(dsn, tmp_path_factory.mktemp("detection") / "log") as process:
        # A lie that removes entries needs an entry.
        httpx.post(f"{process.url}/api/revocation/entries", json={"jti": str(uuid4())}, headers=AUTH).raise_for_status()
        yield process


def outcomes(url: str, lie: Lie, names: list[str]) -> dict[str, str]:
    """Run these checks through the lie; return their outcomes by name."""
    report = asyncio.run(_report(url, lie, names))
    return {result.name: result.outcome for result in report.results}


async def _report(url: str, lie: Lie, names: list[str]) -> Report:
    async with lying(url, lie) as address:
        options = Options(url=address, api_key=API_KEY, webhook_host="1.1.1.1", origin="https://browser.example")
        return await run(options, [BY_NAME[name] for name in names])


def without(header: str) -> Lie:
    def lie(reply: Reply) -> None:
        reply.headers.popall(header, None)

    return lie


def with_header(header: str, value: str, *, path: str = "") -> Lie:
    def lie(reply: Reply) -> None:
        if path in reply.path and header in reply.headers:
            reply.headers[header] = value

    return lie


def in_text(pattern: str, replacement: str, *, path: str = "") -> Lie:
    """Replace every match in the text of a response."""

    def lie(reply: Reply) -> None:
        if path in reply.path:
            reply.body = re.sub(pattern.encode(), replacement.encode(), reply.body)

    return lie


def in_json(change: Callable[[Any], Any], *, path: str, method: str = "") -> Lie:
    """Replace the decoded response by the result of `change`."""

    def lie(reply: Reply) -> None:
        if reply.path.startswith(path) and method in reply.method and reply.status < 300 and reply.body:
            reply.body = json.dumps(change(json.loads(reply.body))).encode()

    return lie


def status(instead_of: int, value: int, *, path: str = "") -> Lie:
    def lie(reply: Reply) -> None:
        if reply.status == instead_of and path in reply.path:
            reply.status = value

    return lie


def member(name: str, value: Any) -> Callable[[Any], Any]:
    return lambda body: {**body, name: value}


def each(name: str, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda body: {**body, name: [change(row) for row in body[name]]} if name in body else body


def turned(name: str) -> Callable[[Any], Any]:
    return lambda body: {**body, name: body[name][::-1]} if name in body else body


def no_entries(body: Any) -> Any:
    return {**body, "revocation_list": {**body["revocation_list"], "entries": []}}


def all_new(body: Any) -> Any:
    return {**body, "inserted": body["ingested"], "duplicates": 0}


LIES: dict[str, tuple[Lie, list[str]]] = {
    "no nosniff": (without("x-content-type-options"), ["responses.nosniff"]),
    "cacheable": (without("cache-control"), ["responses.no_store", "stream.headers", "identity.cached"]),
    "no Allow": (without("allow"), ["responses.wrong_method"]),
    "errors as HTML": (
        with_header("content-type", "text/html"),
        ["responses.unknown_route", "responses.malformed_body", "registration.no_token", "tokens.issued_tokens"],
    ),
    "errors without codes": (
        in_text('"code":', '"kind":'),
        ["responses.unknown_route", "access.wrong_key", "webhooks.other_schemes", "enrolment.not_json"],
    ),
    "no milliseconds": (in_text(r"\.\d{3}Z", "Z"), ["responses.timestamps", "reads.session_members"]),
    "null for no rows": (in_text(r"\[\]", "null"), ["responses.empty_lists"]),
    "one request id": (with_header("x-request-id", "r"), ["responses.request_id_kept", "responses.request_id_fresh"]),
    "no Vary": (without("vary"), ["cors.vary"]),
    "every origin": (without("access-control-allow-origin"), ["cors.origin_allowed", "cors.errors_readable"]),
    "preflights as 200": (status(204, 200), ["cors.preflight", "trust_store.anchor_deleted"]),
    "no challenge": (without("www-authenticate"), ["access.challenge"]),
    "403 for 401": (status(401, 403), ["access.gated_routes", "access.gate_comes_first", "registration.forged_token"]),
    "no word of replays": (
        without("idempotency-replayed"),
        ["idempotency.replayed_anchor", "idempotency.replayed_webhook", "idempotency.refusal_stored"],
    ),
    "ill health": (in_json(member("db", "fine"), path="/api/health"), ["health.health"]),
    "another AID": (in_json(member("aid", "aid:pubkey:x"), path="/api/health"), ["health.health_aid"]),
    "a forged manifest": (
        in_text("aitp-control-plane", "aitp-control-plan", path="/.well-known/"),
        ["identity.verifies", "identity.display_name"],
    ),
    "a longer token": (in_json(member("expiresIn", 600), path="/api/registry/enroll"), ["enrolment.enrolment_answer"]),
    "a manifest printed anew": (
        in_json(lambda body: body, path="/api/registry/agents/aid"),
        ["registry.manifest_bytes"],
    ),
    "discovery in disorder": (in_json(turned("agents"), path="/api/registry/agents"), ["registry.discovery_order"]),
    "agents of another namespace": (
        in_json(each("agents", member("namespace", "x")), path="/api/registry/agents"),
        ["registry.entry_members"],
    ),
    "everything new": (
        in_json(all_new, path="/api/events", method="POST"),
        ["log.resent", "log.resent_at_once", "log.duplicate_within"],
    ),
    "a history in disorder": (
        in_json(turned("events"), path="/api/events/history"),
        ["log.history_order", "log.log_pages"],
    ),
    "raw tokens": (in_text(r'\{"sha256": ?"[0-9a-f]+"[^}]*\}', '"eyJ.raw.token"', path="history"), ["log.redacted"]),
    "named messages": (in_text("data: ", "event: message\ndata: ", path="stream"), ["stream.live", "stream.resumes"]),
    "one event twice": (in_text(r'"n": ?1\b', '"n":0', path="stream"), ["stream.live", "stream.resumes_by_query"]),
    "another opening": (in_text("retry: 3000", "retry: 1000", path="stream"), ["stream.opening"]),
    "all sessions started": (in_text('"complete"', '"started"'), ["projections.complete", "projections.complete_wins"]),
    "nothing is revoked": (
        in_text('"revoked":true', '"revoked":false'),
        ["tokens.revoked_token", "tokens.revoked_before_issued", "revocation.cascade"],
    ),
    "a tree upside down": (in_json(turned("delegations"), path="/api/delegations"), ["reads.delegation_tree"]),
    "an empty list": (
        in_json(no_entries, path="/.well-known/aitp-revocation-list"),
        ["revocation.list_verifies", "revocation.in_the_list", "revocation.listed_soon"],
    ),
    "a weak ETag": (with_header("etag", 'W/"x"'), ["revocation.conditional"]),
    "never not modified": (status(304, 200), ["revocation.conditional"]),
    "secrets in the list": (
        in_json(each("webhooks", member("secret", "s")), path="/api/webhooks", method="GET"),
        ["webhooks.secret_once"],
    ),
    "every URL is fine": (status(400, 201, path="/api/webhooks"), ["webhooks.internal_addresses", "webhooks.no_url"]),
    "an audit in disorder": (in_json(turned("entries"), path="/api/audit"), ["audit.entries", "webhooks.audited"]),
    "no actor": (in_json(each("entries", member("actorId", "somebody")), path="/api/audit"), ["access.actor"]),
    "keys in the list": (
        in_json(each("keys", member("key", "s")), path="/api/keys", method="GET"),
        ["keys.created_key"],
    ),
    "no word of the scope": (in_text('"required":', '"needed":'), ["keys.scope_missing"]),
    "every key passes": (
        status(401, 200, path="/api/whoami"),
        ["keys.wrong_tokens", "key_ends.rotated_at_once", "key_ends.revoked", "key_ends.family"],
    ),
    "names of others": (in_json(each("entries", member("actorName", "x")), path="/api/audit"), ["key_ends.audited"]),
    "everything granted": (status(403, 201, path="/api/keys"), ["keys.grants"]),
    "contained in name only": (
        in_text('"revoked":true', '"revoked":false'),
        ["containment.tokens_revoked", "containment.reported_later", "containment.released"],
    ),
    "a door for the contained": (status(403, 200, path="/api/agent-auth"), ["containment.shut_out"]),
    "any plan will do": (status(409, 201, path="/contain"), ["containment.plan_changed"]),
    "everybody is confirmed": (
        in_text('"confirmed":0,"unknown":1', '"confirmed":1,"unknown":0', path="/reach"),
        ["containment.reach"],
    ),
    "more trust than there is": (
        in_text('"tokens":1', '"tokens":2', path="/api/trust/edges"),
        ["insight.trust_edges"],
    ),
    "nobody is trusted": (in_json(member("mostTrusted", []), path="/api/trust/edges"), ["insight.most_trusted"]),
    "nothing is urgent": (
        in_json(member("lines", [{"severity": "fine"}]), path="/api/attention"),
        ["insight.attention"],
    ),
    "types without numbers": (in_text('"count":2', '"count":0', path="/types"), ["insight.event_types"]),
    "jobs that ran at no time": (in_text('"ranAt":"', '"ranAt":"~', path="/api/jobs"), ["insight.jobs"]),
    "answered by nobody": (in_json(member("answeredBy", "x"), path="/api/replicas"), ["insight.replicas"]),
    "types by another name": (in_text("handshake.odd", "tct.odd"), ["log.history_type_prefix", "stream.type_prefix"]),
    "every filter finds all": (
        in_json(each("sessions", member("startedAt", "x")), path="/api/sessions"),
        ["reads.session_narrowed"],
    ),
    "tokens in another order": (in_json(turned("tcts"), path="/api/tcts"), ["reads.tct_expiring"]),
    "any verdict will do": (status(400, 200, path="/api/tcts"), ["reads.no_verdict"]),
    "any form will do": (status(403, 303, path="/console/"), ["console.forged_forms"]),
    "a session for the API": (status(401, 200, path="/api/whoami"), ["console.two_doors"]),
    "NaN": (in_text(r"db_up 1\.0", "db_up NaN", path="metrics"), ["metrics.database_up", "metrics.clean"]),
    "metrics renamed": (in_text("agents_active", "active_agents", path="metrics"), ["metrics.names"]),
    "limits off the record": (in_text("PAYLOAD_TOO_LARGE", "TOO_LARGE"), ["bodies.large_body", "events.too_many"]),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_noticed(server: Process, name: str) -> None:
    lie, names = LIES[name]
    assert outcomes(server.url, lie, names) == dict.fromkeys(names, "failed")


def test_what_agents_call_their_events_breaks_no_reading(server: Process) -> None:
    odd = 'odd\r\n\x85\u2028\\"} 1'
    httpx.post(f"{server.url}/api/events", json=[{"type": odd, "run_id": odd}], headers=AUTH).raise_for_status()
    eventually(lambda: "odd" in httpx.get(f"{server.url}/api/metrics").text)
    names = [name for name in BY_NAME if name.startswith("metrics.")]
    assert outcomes(server.url, truth, names) == dict.fromkeys(names, "passed")


def test_the_truth_passes_through_the_same_proxy(server: Process) -> None:
    noticed = {name for _, names in LIES.values() for name in names}
    names = [name for name in BY_NAME if name in noticed]  # the check that releases an agent comes last
    assert outcomes(server.url, truth, names) == dict.fromkeys(names, "passed")
