"""Contract, section 3: who may call what."""

import hashlib

from aitp_cp_conformance import expect
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment
from aitp_cp_conformance.registered import main_agent
from aitp_cp_conformance.responses import UNKNOWN_ID
from aitp_cp_conformance.wire import Caller

OPEN = (
    "/api/health",
    "/api/readyz",
    "/api/metrics",
    "/.well-known/aitp-manifest",
    "/.well-known/aitp-revocation-list",
    "/api/registry/agents",
)
GATED = (
    ("POST", "/api/events"),
    ("GET", "/api/events/history"),
    ("GET", "/api/events/stream"),
    ("GET", "/api/sessions"),
    ("GET", "/api/sessions/any"),
    ("GET", "/api/sessions/any/export"),
    ("GET", "/api/sessions/any/replay"),
    ("GET", "/api/tcts"),
    ("GET", "/api/delegations"),
    ("GET", "/api/dashboard/overview"),
    ("GET", "/api/dashboard/agents"),
    ("POST", "/api/revocation/entries"),
    ("GET", "/api/webhooks"),
    ("POST", "/api/webhooks"),
    ("PATCH", f"/api/webhooks/{UNKNOWN_ID}"),
    ("DELETE", f"/api/webhooks/{UNKNOWN_ID}"),
    ("GET", f"/api/webhooks/{UNKNOWN_ID}/circuit-breaker"),
    ("POST", f"/api/webhooks/{UNKNOWN_ID}/circuit-breaker/reset"),
    ("GET", "/api/trust-anchors"),
    ("POST", "/api/trust-anchors"),
    ("PATCH", f"/api/trust-anchors/{UNKNOWN_ID}"),
    ("DELETE", f"/api/trust-anchors/{UNKNOWN_ID}"),
    ("GET", "/api/pinned-keys"),
    ("POST", "/api/pinned-keys"),
    ("DELETE", "/api/pinned-keys"),
    ("GET", "/api/audit"),
    ("DELETE", "/api/registry/agents/any"),
    ("GET", "/api/registry/agents/any/export"),
)
GATED_EXTENSIONS = (
    ("GET", "/api/revocation/entries"),
    ("GET", f"/api/webhooks/{UNKNOWN_ID}"),
    ("GET", f"/api/webhooks/{UNKNOWN_ID}/deliveries"),
    ("POST", f"/api/webhooks/{UNKNOWN_ID}/test"),
    ("POST", f"/api/webhooks/{UNKNOWN_ID}/deliveries/{UNKNOWN_ID}/redeliver"),
    ("PUT", f"/api/webhooks/{UNKNOWN_ID}"),
    ("GET", f"/api/trust-anchors/{UNKNOWN_ID}/jwks"),
)


def wrong_keys(key: str) -> list[dict[str, str]]:
    """Credentials that are almost right."""
    return [
        {"Authorization": f"Bearer {key}x"},
        {"Authorization": f"Bearer {key[:-1]}"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer"},
        {"Authorization": key},
        {"Authorization": f"Basic {key}"},
        {"X-Api-Key": key},
        {"Authorization": f"Bearer {key.swapcase()}{key}"},
    ]


@check("3", "health, metrics and signed documents need no credentials")
async def open_routes(cp: Deployment) -> None:
    for path in cp.reachable(OPEN):
        expect.status(await cp.public.get(path), 200)


@check("3", "signed documents are also under `/api/well-known/*`")
async def open_twins(cp: Deployment) -> None:
    for name in ("aitp-manifest", "aitp-revocation-list"):
        expect.status(await cp.public.get(f"/api/well-known/{name}"), 200)


@check("3", "`/api/livez` and `/api/openapi.json` need no credentials", extension=True)
async def open_extensions(cp: Deployment) -> None:
    for path in ("/api/livez", "/api/openapi.json"):
        expect.status(await cp.public.get(path), 200)


@check("3", "an agent's record and manifest need no credentials")
async def open_agents(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    for path in (agent.path, f"{agent.path}/manifest"):
        expect.status(await cp.public.get(path), 200)


@check("3", "everything else needs an API key: without one, 401 `INVALID_API_KEY`")
async def gated_routes(cp: Deployment) -> None:
    cp.require_key()
    for method, path in GATED:
        expect.error(await cp.public.call(method, path), 401, "INVALID_API_KEY")


@check("3", "the routes of extensions need an API key too", extension=True)
async def gated_extensions(cp: Deployment) -> None:
    cp.require_key()
    for method, path in GATED_EXTENSIONS:
        expect.error(await cp.public.call(method, path), 401, "INVALID_API_KEY")


@check("3", "a wrong key is 401 `INVALID_API_KEY`")
async def wrong_key(cp: Deployment) -> None:
    for headers in wrong_keys(cp.require_key()):
        expect.error(await cp.public.get("/api/audit", headers), 401, "INVALID_API_KEY")


@check("3", "a response to a refused key has `WWW-Authenticate: Bearer`")
async def challenge(cp: Deployment) -> None:
    cp.require_key()
    for headers in ({}, {"Authorization": f"Bearer {cp.run}"}):
        expect.header(await cp.public.get("/api/audit", headers), "www-authenticate", "Bearer")


@check("3", "a key in the query is ignored")
async def key_in_query(cp: Deployment) -> None:
    cp.require_key()
    for name in ("api_key", "apiKey", "key", "token", "access_token"):
        # Not the key itself: a query ends up in the logs of proxies.
        expect.error(await cp.public.get("/api/audit", **{name: "in-the-query"}), 401, "INVALID_API_KEY")


@check("3", "without a key the response says nothing else about the request")
async def gate_comes_first(cp: Deployment) -> None:
    cp.require_key()
    for method, path, body in (
        ("POST", "/api/webhooks", b"{"),
        ("POST", "/api/events", b"not json"),
        ("GET", "/api/webhooks/not-a-uuid/circuit-breaker", None),
        ("GET", "/api/events/history?since=never", None),
    ):
        expect.error(await cp.public.call(method, path, body), 401, "INVALID_API_KEY")


@check("3", "a key that is not ASCII is 401, not a server error")
async def strange_key(cp: Deployment) -> None:
    cp.require_key()
    for key in ("schlüssel", "🔑", "k" * 4000):
        response = await Caller(cp.wire, {"Authorization": f"Bearer {key}"}).get("/api/audit")
        expect.error(response, 401, "INVALID_API_KEY")


@check("3", "a failed attempt spends a `public-ip` token", extension=True)
async def guessing_is_throttled(cp: Deployment) -> None:
    cp.require_key()
    open_limit = (await cp.public.get("/api/registry/agents", limit=1)).headers.get("x-ratelimit-limit")
    if open_limit is None:
        cp.skip("public routes show no X-RateLimit-Limit: the limit is off")
    refused = await cp.public.get("/api/audit")
    expect.header(refused, "x-ratelimit-limit", open_limit)


@check("3", "the actor in audit rows is `apikey:` and 16 hex digits of the key's SHA-256")
async def actor(cp: Deployment) -> None:
    key = cp.require_key()
    issuer = f"https://issuer.example/{cp.name('actor')}"
    made = (await cp.admin.post("/api/trust-anchors", {"issuerUrl": issuer, "namespace": cp.namespace})).ok(201)
    response = await cp.admin.get("/api/audit", limit=50)
    [row] = [row for row in expect.rows(response, "entries") if row.get("targetId") == made["id"]]
    expected = "apikey:" + hashlib.sha256(key.encode()).hexdigest()[:16]
    expect.equal(row.get("actorId"), expected, "actorId")
    expect.that(key.encode() not in response.body, "the audit shows the key")
