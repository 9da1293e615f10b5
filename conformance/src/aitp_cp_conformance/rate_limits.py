"""Contract, section 4: rate limiting. These checks run last: they read the 429 responses of the others."""

import time

from aitp_cp_conformance import expect
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment
from aitp_cp_conformance.wire import Response

EXEMPT = (
    "/api/health",
    "/api/readyz",
    "/api/metrics",
    "/.well-known/aitp-manifest",
    "/.well-known/aitp-revocation-list",
)
NAMES = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
# Requests per minute. A larger bucket is full again before the next request arrives.
MEASURABLE_LIMIT = 600
DAY = 86_400


def figures(response: Response) -> tuple[int, int, int]:
    """Return limit, remaining and reset of a response; raise `Broken` unless all are numbers."""
    shown = [response.headers.get(name, "") for name in NAMES]
    headers = dict(zip(NAMES, shown, strict=True))
    expect.that(all(text.isdigit() for text in shown), f"{response.request} shows {headers}")
    limit, remaining, reset = map(int, shown)
    return limit, remaining, reset


async def _limited(cp: Deployment) -> Response:
    response = await cp.public.get("/api/registry/agents", limit=1)
    if NAMES[0] not in response.headers:
        cp.skip("no X-RateLimit-Limit on a public route: limits are off, or this extension is missing")
    return response


@check("4", "over the limit is 429 `RATE_LIMITED` naming the bucket")
async def refusal(cp: Deployment) -> None:
    for bucket, response in _refused(cp).items():
        body = expect.error(response, 429, "RATE_LIMITED")
        expect.that(body.get("bucket") in {"enroll-ip", "public-ip", "api-key"}, f"a 429 names the bucket {bucket!r}")


@check("4", "a 429 has `Retry-After` of at least one second")
async def retry_after(cp: Deployment) -> None:
    for response in _refused(cp).values():
        text = response.headers.get("retry-after", "")
        expect.that(text.isdigit() and int(text) >= 1, f"{response.request} has Retry-After: {text!r}")


@check("4", "a 429 shows the limit, `X-RateLimit-Remaining: 0` and the reset in epoch seconds")
async def refusal_figures(cp: Deployment) -> None:
    for response in _refused(cp).values():
        limit, remaining, reset = figures(response)
        expect.that(limit > 0, f"{response.request} shows a limit of {limit}")
        expect.equal(remaining, 0, "X-RateLimit-Remaining of a 429")
        expect.that(response.at - 5 <= reset <= response.at + DAY, f"X-RateLimit-Reset {reset} is no near epoch second")


def _refused(cp: Deployment) -> dict[str, Response]:
    if not cp.wire.refused:
        cp.skip("no request of this run met a rate limit")
    return cp.wire.refused


@check("4", "the three `X-RateLimit-*` are on allowed responses", extension=True)
async def allowed_figures(cp: Deployment) -> None:
    await _limited(cp)
    for response in (await cp.public.get("/api/registry/agents", limit=1), await cp.admin.get("/api/audit", limit=1)):
        limit, remaining, reset = figures(response)
        expect.that(0 <= remaining < limit, f"{response.request} shows {remaining} of {limit} left after a request")
        expect.that(response.at - 5 <= reset <= response.at + DAY, f"X-RateLimit-Reset {reset} is no near epoch second")


@check("4", "probes, metrics and signed documents are exempt")
async def exempt(cp: Deployment) -> None:
    await _limited(cp)
    for path in cp.reachable(EXEMPT):
        response = await cp.public.get(path)
        expect.status(response, 200)
        expect.has_no(NAMES, response.headers, path)


@check("4", "`/api/livez` is exempt", extension=True)
async def exempt_extension(cp: Deployment) -> None:
    await _limited(cp)
    response = await cp.public.get("/api/livez")
    expect.status(response, 200)
    expect.has_no(NAMES, response.headers, "/api/livez")


@check("4", "preflights are exempt")
async def exempt_preflights(cp: Deployment) -> None:
    await _limited(cp)
    headers = {"Origin": "https://browser.example", "Access-Control-Request-Method": "GET"}
    response = await cp.public.preflight("/api/registry/agents", headers)
    expect.status(response, 204)
    expect.has_no(NAMES, response.headers, "a preflight")


@check("4", "many probes in a row are all answered")
async def probes(cp: Deployment) -> None:
    began = time.monotonic()
    for _ in range(100):
        response = await cp.wire.send_once("GET", "/api/health", None, {})
        expect.status(response, 200)
    expect.that(time.monotonic() - began < 60, "100 probes took over a minute")


@check("4", "only headers that the operator configured set the client's address")
async def forged_addresses(cp: Deployment) -> None:
    limit, _, _ = figures(await _limited(cp))
    if limit > MEASURABLE_LIMIT:
        cp.skip(f"the bucket of {limit} refills too fast to measure")
    remaining = []
    for number in range(1, 6):
        forged = f"203.0.113.{number}"
        headers = {"X-Real-Ip": forged, "Forwarded": f"for={forged}", "X-Client-Ip": forged, "True-Client-Ip": forged}
        remaining.append(figures(await cp.public.get("/api/registry/agents", headers, limit=1))[1])
    expect.that(remaining[-1] < limit - 1, f"forged addresses have buckets of their own: {remaining} of {limit} left")
