"""Contract, section 2: rules for every response."""

from typing import Any

from aitp_cp_conformance import expect
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment
from aitp_cp_conformance.registered import main_agent
from aitp_cp_conformance.wire import Caller, Response

OPEN = ("/api/health", "/api/readyz", "/api/metrics", "/.well-known/aitp-manifest", "/api/registry/agents")
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"
LEAKS = (
    "Traceback",
    "SELECT ",
    "INSERT ",
    "postgres://",
    "postgresql://",
    "asyncpg",
    "at Object.",
    '.py"',
    "node_modules",
)


@check("2", "an unknown route is 404 `NOT_FOUND`")
async def unknown_route(cp: Deployment) -> None:
    for path in (f"/api/{cp.run}", f"/{cp.run}", "/api/registry/agents/a/b/c/d"):
        expect.error(await cp.public.get(path), 404, "NOT_FOUND")


@check("2", "a wrong method is 405 `METHOD_NOT_ALLOWED` with `Allow`")
async def wrong_method(cp: Deployment) -> None:
    for method, path, allowed in (
        ("DELETE", "/api/health", "GET"),
        ("GET", "/api/registry/enroll", "POST"),
        ("PATCH", "/.well-known/aitp-manifest", "GET"),
        ("POST", "/api/readyz", "GET"),
    ):
        response = await cp.public.call(method, path)
        expect.error(response, 405, "METHOD_NOT_ALLOWED")
        names = {name.strip() for name in response.headers.get("allow", "").split(",")}
        expect.that(allowed in names and method not in names, f"{response.request} has Allow: {sorted(names)}")


@check("2", "a malformed body is 400 `BODY_INVALID`")
async def malformed_body(cp: Deployment) -> None:
    for body in (b"", b"{", b"not json", b'{"url": }', b"\xff\xfe", b'{"url": "https://a.example"} trailing'):
        expect.error(await cp.admin.post("/api/webhooks", body), 400, "BODY_INVALID")


@check("2", "a body of the wrong shape is 400 `BODY_INVALID`")
async def misshapen_body(cp: Deployment) -> None:
    for path in ("/api/webhooks", "/api/trust-anchors", "/api/pinned-keys"):
        for body in (b"[]", b'"text"', b"7", b"null"):
            expect.error(await cp.admin.post(path, body), 400, "BODY_INVALID")
    misfits: tuple[Any, ...] = (7, ["https://a.example"], None, {})
    for url in misfits:
        expect.error(await cp.admin.post("/api/webhooks", {"url": url}), 400, "BODY_INVALID")
    expect.error(await cp.admin.post("/api/webhooks", {}), 400, "BODY_INVALID")


@check("2", "no error shows an exception's text, SQL or a connection string")
async def nothing_leaks(cp: Deployment) -> None:
    responses = [
        await cp.admin.get("/api/events/history", since="' OR 1=1 --"),
        await cp.admin.get("/api/delegations", root_jti="'; DROP TABLE agents"),
        await cp.admin.get("/api/webhooks/%27%3B--"),
        await cp.admin.post("/api/revocation/entries", {"jti": {"$ne": 1}}),
        await cp.admin.post("/api/trust-anchors", {"issuerUrl": "https://[", "label": 5}),
        await cp.public.get("/api/registry/agents/%27%22%3C%3E"),
    ]
    for response in responses:
        expect.that(response.status < 500, f"{response}")
        expect.that(response.status >= 400, f"{response}, not an error")
        shown = [leak for leak in LEAKS if leak in response.body.decode(errors="replace")]
        expect.that(not shown, f"{response}, which shows {shown}")


@check("2", "timestamps are ISO-8601 UTC with `Z` and milliseconds")
async def timestamps(cp: Deployment) -> None:
    aid = (await cp.shared(main_agent)).aid
    [record] = expect.rows(await cp.public.get("/api/registry/agents", aid=aid), "agents")
    for name in ("registeredAt", "lastEnrolledAt"):
        expect.moment(record.get(name), f"an agent's {name}")
    [entry] = expect.rows(await cp.admin.get("/api/audit", limit=1), "entries")
    expect.moment(entry.get("createdAt"), "an audit row's createdAt")
    [event] = await cp.history(limit=1)
    expect.moment(event.get("ts"), "an event's ts")


@check("2", "empty lists are `[]`, never null")
async def empty_lists(cp: Deployment) -> None:
    nowhere = cp.name("nowhere")
    for path, filters, name in (
        ("/api/events/history", {"runId": nowhere}, "events"),
        ("/api/sessions", {"runId": nowhere}, "sessions"),
        ("/api/tcts", {"issuer": nowhere}, "tcts"),
        ("/api/delegations", {"delegator": nowhere}, "delegations"),
        ("/api/trust-anchors", {"namespace": nowhere}, "trustAnchors"),
        ("/api/pinned-keys", {"namespace": nowhere}, "pinnedKeys"),
    ):
        expect.equal(expect.rows(await cp.admin.get(path, **filters), name), [], f"{name} of {path}")
    agents = expect.rows(await cp.public.get("/api/registry/agents", namespace=nowhere), "agents")
    expect.equal(agents, [], "agents of an unknown namespace")


@check("2", "`x-request-id` is the client's when it is 1 to 128 of [A-Za-z0-9._:-]")
async def request_id_kept(cp: Deployment) -> None:
    for request_id in ("a", f"{cp.run}:A.b_c-9", "x" * 128):
        for path in ("/api/health", f"/api/{cp.run}"):
            expect.header(await cp.public.get(path, {"X-Request-Id": request_id}), "x-request-id", request_id)


@check("2", "otherwise `x-request-id` is a new one")
async def request_id_fresh(cp: Deployment) -> None:
    seen = set()
    for headers in ({}, {}, *({"X-Request-Id": bad} for bad in ("x" * 129, "two words", "a/b", "ä", "<script>"))):
        response = await cp.public.get("/api/health", headers)
        [shown] = response.headers.getall("x-request-id", []) or [""]
        expect.that(shown and shown not in headers.values(), f"{response.request} has x-request-id {shown!r}")
        seen.add(shown)
    expect.equal(len(seen), 7, "the number of different ids of seven requests")


@check("2", "`x-request-id` is in the admin audit row")
async def request_id_audited(cp: Deployment) -> None:
    request_id = cp.name("request")
    issuer = f"https://issuer.example/{request_id}"
    made = await cp.admin.post(
        "/api/trust-anchors", {"issuerUrl": issuer, "namespace": cp.namespace}, {"X-Request-Id": request_id}
    )
    target = made.ok(201)["id"]
    ids = [row.get("requestId") for row in await cp.audit_rows(target)]
    expect.equal(ids, [request_id], f"the request ids in the audit rows of {target}")


@check("2", "`X-Content-Type-Options: nosniff` everywhere")
async def nosniff(cp: Deployment) -> None:
    for response in await _various(cp):
        expect.header(response, "x-content-type-options", "nosniff")


@check("2", "`Cache-Control: no-store` unless the endpoint sets another")
async def no_store(cp: Deployment) -> None:
    for path in ("/api/health", "/api/readyz", "/api/registry/agents", f"/api/{cp.run}", "/api/audit"):
        expect.header(await cp.public.get(path), "cache-control", "no-store")
    for path in ("/api/audit", "/api/events/history", "/api/sessions", "/api/webhooks"):
        expect.header(await cp.admin.get(path), "cache-control", "no-store")


@check("2", "an `{id}` that is no UUID is 400 `ID_INVALID`")
async def id_invalid(cp: Deployment) -> None:
    for bad in ("7", "not-a-uuid", UNKNOWN_ID + "0"):
        for path in (f"/api/webhooks/{bad}", f"/api/trust-anchors/{bad}"):
            expect.error(await cp.admin.patch(path, {"label": "x"}), 400, "ID_INVALID")
            expect.error(await cp.admin.delete(path), 400, "ID_INVALID")
        expect.error(await cp.admin.get(f"/api/trust-anchors/{bad}"), 400, "ID_INVALID")
        expect.error(await cp.admin.get(f"/api/webhooks/{bad}/circuit-breaker"), 400, "ID_INVALID")
        expect.error(await cp.admin.post(f"/api/webhooks/{bad}/circuit-breaker/reset"), 400, "ID_INVALID")


@check("2", "an `{id}` that is no UUID is 400 `ID_INVALID` on the routes of extensions", extension=True)
async def id_invalid_of_extensions(cp: Deployment) -> None:
    for path in ("/api/webhooks/7", "/api/webhooks/7/deliveries", "/api/trust-anchors/7/jwks"):
        expect.error(await cp.admin.get(path), 400, "ID_INVALID")
    for path in ("/api/webhooks/7/test", f"/api/webhooks/{UNKNOWN_ID}/deliveries/7/redeliver"):
        expect.error(await cp.admin.post(path), 400, "ID_INVALID")


async def _various(cp: Deployment) -> list[Response]:
    """Return responses of every kind: success, errors, text, signed documents, preflights."""
    responses = [await cp.public.get(path) for path in cp.reachable(OPEN)]
    responses += [await cp.public.get(f"/api/{cp.run}"), await cp.public.call("DELETE", "/api/health")]
    responses += [await caller.get("/api/audit") for caller in _callers(cp)]
    responses += [await cp.public.preflight("/api/audit", {"Origin": "https://browser.example"})]
    return responses


def _callers(cp: Deployment) -> list[Caller]:
    return [cp.public] if cp.options.api_key is None else [cp.public, cp.admin]
