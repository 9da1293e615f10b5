"""Contract, section 6: health."""

import asyncio
import json

from aitp_cp_conformance import expect
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment

PROBES = 30
# The budget of the database ping, and time for the network.
PING_SECS = 5.0


@check("6", '`GET /api/health` is 200 {"ok":true,"service":"aitp-control-plane","aid","db":"ok"}')
async def health(cp: Deployment) -> None:
    body = (await cp.public.get("/api/health")).ok()
    expect.members(body, ("ok", "service", "aid", "db"), "the health answer")
    expect.that(body["ok"] is True, f"`ok` is {body['ok']!r}")
    expect.equal((body["service"], body["db"]), ("aitp-control-plane", "ok"), "service and db")


@check("6", "the AID of `GET /api/health` is the one that signs the manifest")
async def health_aid(cp: Deployment) -> None:
    shown = (await cp.public.get("/api/health")).ok()["aid"]
    envelope = (await cp.public.get("/.well-known/aitp-manifest")).ok()
    expect.equal(shown, envelope["manifest"]["aid"], "the AID in /api/health")


@check("6", '`GET /api/livez` is 200 {"ok":true}', extension=True)
async def livez(cp: Deployment) -> None:
    expect.equal((await cp.public.get("/api/livez")).ok(), {"ok": True}, "the response of /api/livez")


@check("6", '`GET /api/readyz` is 200 {"ready":true}')
async def readyz(cp: Deployment) -> None:
    body = (await cp.public.get("/api/readyz")).ok()
    expect.that(isinstance(body, dict) and body.get("ready") is True, f"/api/readyz says {body}")


@check("6", "`GET /api/metrics` is Prometheus text 0.0.4")
async def metrics(cp: Deployment) -> None:
    response = await cp.scrape()
    expect.status(response, 200)
    kind = response.headers.get("content-type", "")
    expect.that(kind.startswith("text/plain") and "version=0.0.4" in kind, f"the Content-Type is {kind!r}")


@check("6", "concurrent probes are answered within the ping's budget")
async def concurrent(cp: Deployment) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    responses = await asyncio.gather(*(cp.public.get("/api/health") for _ in range(PROBES)))
    for response in responses:
        expect.status(response, 200)
    expect.that(loop.time() - began < PING_SECS, f"{PROBES} probes at once took {loop.time() - began:.1f} s")


@check("6", "the OpenAPI document names the routes", extension=True)
async def openapi(cp: Deployment) -> None:
    document = json.loads((await cp.public.get("/api/openapi.json")).body)
    expect.that(str(document.get("openapi", "")).startswith("3."), "no OpenAPI 3 document")
    expect.members(document.get("paths"), ("/api/events", "/api/webhooks", "/api/registry/agents"), "its paths")
