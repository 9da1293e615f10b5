"""Contract, section 2: CORS."""

from aitp_cp_conformance import expect
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment
from aitp_cp_conformance.wire import Response

METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
REQUEST_HEADERS = {
    "authorization",
    "content-type",
    "x-request-id",
    "x-aitp-namespace",
    "idempotency-key",
    "last-event-id",
}
EXPOSED = {
    "x-request-id",
    "retry-after",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "idempotency-replayed",
    "etag",
}
ALLOW_ORIGIN = "access-control-allow-origin"
PATHS = ("/api/health", "/api/registry/agents", "/api/audit", "/.well-known/aitp-manifest")


def listed(response: Response, name: str) -> set[str]:
    return {entry.strip().lower() for entry in response.headers.get(name, "").split(",")}


async def allowed_origin(cp: Deployment) -> str:
    """Return an allowed origin: the one of --origin, or any origin if all are allowed."""
    if cp.options.origin is not None:
        return cp.options.origin
    response = await cp.public.get("/api/health", {"Origin": f"https://{cp.run}.example"})
    if response.headers.get(ALLOW_ORIGIN) == "*":
        return f"https://{cp.run}.example"
    cp.skip("name an origin that CORS_ORIGIN allows with --origin")


@check("2", "`Vary: Origin` on `/api/*` and `/.well-known/*`")
async def vary(cp: Deployment) -> None:
    for path in PATHS:
        for headers in ({}, {"Origin": "https://browser.example"}):
            response = await cp.public.get(path, headers)
            expect.that("origin" in listed(response, "vary"), f"{response.request} has no Vary: Origin")


@check("2", "the matching origin is echoed, or `*` when all may read")
async def origin_allowed(cp: Deployment) -> None:
    origin = await cp.shared(allowed_origin)
    for path in PATHS:
        shown = (await cp.public.get(path, {"Origin": origin})).headers.get(ALLOW_ORIGIN)
        expect.that(shown in {origin, "*"}, f"Access-Control-Allow-Origin of {path} is {shown!r} for {origin}")


@check("2", "an origin that is not allowed is not echoed")
async def origin_refused(cp: Deployment) -> None:
    own = cp.options.origin or "https://console.example"
    for origin in (f"https://{cp.run}.example", own + ".evil.example", own.replace("https:", "http:") + "x", "null"):
        response = await cp.public.get("/api/health", {"Origin": origin})
        expect.status(response, 200)
        shown = response.headers.get(ALLOW_ORIGIN)
        expect.that(shown != origin, f"the origin {origin} is echoed")


@check("2", "the headers that browsers may read are exposed")
async def exposed(cp: Deployment) -> None:
    response = await cp.public.get("/api/health", {"Origin": await cp.shared(allowed_origin)})
    missing = EXPOSED - listed(response, "access-control-expose-headers")
    expect.that(not missing, f"Access-Control-Expose-Headers lacks {sorted(missing)}")


@check("2", "errors carry the CORS headers too")
async def errors_readable(cp: Deployment) -> None:
    origin = await cp.shared(allowed_origin)
    for response in (
        await cp.public.get(f"/api/{cp.run}", {"Origin": origin}),
        await cp.public.call("DELETE", "/api/health", None, {"Origin": origin}),
    ):
        expect.that(response.headers.get(ALLOW_ORIGIN) in {origin, "*"}, f"{response}, which {origin} may not read")


@check("2", "a preflight is 204 and names the methods and request headers")
async def preflight(cp: Deployment) -> None:
    origin = await cp.shared(allowed_origin)
    request_headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    for path in ("/api/webhooks", "/api/events", "/.well-known/aitp-revocation-list"):
        response = await cp.public.preflight(path, request_headers)
        expect.status(response, 204)
        expect.equal(response.body, b"", f"the body of {response.request}")
        expect.that(response.headers.get(ALLOW_ORIGIN) in {origin, "*"}, f"{response.request} does not allow {origin}")
        methods = METHODS - {name.upper() for name in listed(response, "access-control-allow-methods")}
        headers = REQUEST_HEADERS - listed(response, "access-control-allow-headers")
        expect.that(not methods and not headers, f"{response.request} does not allow {sorted(methods | headers)}")


@check("2", "a preflight reaches no handler")
async def preflight_alone(cp: Deployment) -> None:
    request_headers = {"Origin": "https://browser.example", "Access-Control-Request-Method": "POST"}
    for path in ("/api/audit", "/api/registry/enroll", "/api/webhooks/not-a-uuid"):
        expect.status(await cp.public.preflight(path, request_headers), 204)
