"""Probes, metrics and the OpenAPI document (contract, sections 3, 6 and 14)."""

import asyncio
from functools import partial

from prometheus_client import generate_latest
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.ops import store
from aitp_cp.ops.attention import attention
from aitp_cp.ops.health import DatabaseProbe, readiness
from aitp_cp.ops.model import Alive, Attention, Health, JobList, Readiness, ReplicaList
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.web.endpoint import Bucket, Endpoint, Gate
from aitp_cp.web.memo import Memo
from aitp_cp.web.openapi import Document
from aitp_cp.web.responses import json_bytes, json_response

SERVICE = "aitp-control-plane"
EXPOSED_FOR_SECS = 0.25
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Exposition(Memo[Response]):
    """The text of a scrape, shared by those that come within a moment of each other, until a request is answered."""

    def __init__(self, rt: Runtime) -> None:
        super().__init__(EXPOSED_FOR_SECS, 2**24, version=lambda: rt.metrics.answered)


async def health(rt: Runtime, request: Request) -> Response:
    up = await rt.get(DatabaseProbe).up()
    response = Health(ok=up, service=SERVICE, aid=rt.signer.aid, db="ok" if up else "error")
    return json_response(response, 200 if up else 503)


async def livez(rt: Runtime, request: Request) -> Response:
    return json_response(Alive(ok=True))


async def readyz(rt: Runtime, request: Request) -> Response:
    reason = await readiness(rt)
    return json_response(Readiness(ready=reason is None, reason=reason), 200 if reason is None else 503)


async def metrics(rt: Runtime, request: Request) -> Response:
    return await rt.get(Exposition).get(None, lambda: _exposition(rt))


async def _exposition(rt: Runtime) -> Response:
    text = await asyncio.to_thread(generate_latest, rt.metrics.scraped())
    return Response(text, media_type=METRICS_TYPE)


async def openapi(rt: Runtime, request: Request) -> Response:
    return json_bytes(rt.get(Document).body)


async def needs_attention(rt: Runtime, request: Request) -> Response:
    return json_response(await attention(rt))


async def jobs(rt: Runtime, request: Request) -> Response:
    async with rt.db.connection() as conn:
        return json_response(JobList(await store.jobs(conn)))


async def replicas(rt: Runtime, request: Request) -> Response:
    async with rt.db.connection() as conn:
        return json_response(ReplicaList(await store.replicas(conn), rt.id))


endpoint = partial(Endpoint, tag="ops")
probe = partial(endpoint, gate=Gate.OPEN, bucket=Bucket.EXEMPT)
insight = partial(endpoint, scope=Scope.DASHBOARD_READ, bulk=True)

ENDPOINTS = (
    probe(
        "GET /api/health",
        health,
        "Liveness with a database ping; stays 200 while draining",
        responses={200: Health, 503: Health},
    ),
    probe("GET /api/livez", livez, "200 as long as the event loop turns", responses={200: Alive}),
    probe(
        "GET /api/readyz",
        readyz,
        "Whether this process should get traffic",
        responses={200: Readiness, 503: Readiness},
    ),
    probe("GET /api/metrics", metrics, "Prometheus text format 0.0.4", responses={200: "text/plain"}),
    endpoint("GET /api/openapi.json", openapi, "This document", gate=Gate.OPEN, responses={200: dict}),
    insight(
        "GET /api/attention",
        needs_attention,
        "What needs an operator's attention now, worst first",
        responses={200: Attention},
    ),
    insight(
        "GET /api/jobs",
        jobs,
        "The latest run of each background job, by any process",
        responses={200: JobList},
    ),
    insight(
        "GET /api/replicas",
        replicas,
        "The processes that share the database, and how far each has read the log",
        responses={200: ReplicaList},
    ),
)
