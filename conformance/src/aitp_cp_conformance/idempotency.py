"""Contract, section 5: idempotency."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aitp_cp_conformance import expect
from aitp_cp_conformance.agents import new_agent
from aitp_cp_conformance.bodies import SMALL, padded
from aitp_cp_conformance.check import Check, check
from aitp_cp_conformance.deployment import Deployment, event
from aitp_cp_conformance.hooks import hook_url
from aitp_cp_conformance.registered import main_agent, other_agent, register
from aitp_cp_conformance.reported import new_jti
from aitp_cp_conformance.wire import Response

REPLAYED = "idempotency-replayed"
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Case:
    """An endpoint that accepts the header, and a function that returns a new body for it."""

    path: str
    status: int
    body: Callable[[Deployment], Awaitable[Any]]


async def _webhook(cp: Deployment) -> Any:
    return {"url": await hook_url(cp), "active": False}


async def _anchor(cp: Deployment) -> Any:
    return {"issuerUrl": f"https://issuer.example/{cp.name('issuer')}", "namespace": cp.namespace}


async def _pinned(cp: Deployment) -> Any:
    aid = new_agent().aid
    return {"aid": aid, "pubkey": aid.rpartition(":")[2], "namespace": cp.namespace}


async def _events(cp: Deployment) -> Any:
    return [event("conformance.idempotent", run_id=cp.name("run"), id=cp.name("event"))]


async def _revocation(cp: Deployment) -> Any:
    if not cp.options.revoke:
        cp.skip("adds a permanent entry to the deny list, which --no-revoke forbids")
    return {"jti": new_jti(), "reason": cp.run}


WEBHOOKS = Case("/api/webhooks", 201, _webhook)
ANCHORS = Case("/api/trust-anchors", 201, _anchor)
PINNED = Case("/api/pinned-keys", 201, _pinned)
EVENTS = Case("/api/events", 200, _events)
REVOCATIONS = Case("/api/revocation/entries", 201, _revocation)


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


async def _twice(cp: Deployment, case: Case) -> tuple[Response, Response]:
    """Send the same request twice with one key."""
    body, headers = await case.body(cp), keyed(cp.name("key"))
    first = await cp.admin.post(case.path, body, headers)
    expect.status(first, case.status)
    expect.that(REPLAYED not in first.headers, f"the first response of {case.path} says it is a replay")
    again = await cp.admin.post(case.path, body, headers)
    expect.status(again, case.status)
    expect.header(again, REPLAYED, "true")
    return first, again


async def _same_again(cp: Deployment, case: Case) -> None:
    first, again = await _twice(cp, case)
    expect.equal(again.json, first.json, f"the replayed body of {case.path}")


def _replays(case: Case, name: str) -> Check:
    """Return the check that this endpoint replays."""

    async def body(cp: Deployment) -> None:
        await _same_again(cp, case)

    body.__name__ = name
    return check("5", f"a repeated `POST {case.path}` with the same key returns the stored status and body")(body)


replayed_anchor = _replays(ANCHORS, "replayed_anchor")
replayed_pinned_key = _replays(PINNED, "replayed_pinned_key")
replayed_events = _replays(EVENTS, "replayed_events")
replayed_revocation = _replays(REVOCATIONS, "replayed_revocation")


@check("5", "a replayed webhook creation has `secret` null and `secretOmitted` true")
async def replayed_webhook(cp: Deployment) -> None:
    first, again = await _twice(cp, WEBHOOKS)
    created = first.json
    expect.that(created.get("secret"), "a webhook's creation shows no secret")
    expect.equal(again.json, {**created, "secret": None, "secretOmitted": True}, "the replayed creation of a webhook")


@check(
    "5",
    "a repeated `POST /api/registry/agents` with the same key returns the stored response, although the token is used",
)
async def replayed_registration(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    if time.time() > agent.enrolled["exp"]:
        cp.skip("the enrollment token has expired meanwhile")
    again = await register(cp, agent.manifest, agent.enrolled["token"], agent.headers)
    expect.status(again, 201)
    expect.header(again, REPLAYED, "true")
    expect.equal(again.json, agent.response.json, "the replayed registration")


@check("5", "the effect runs once")
async def effect_once(cp: Deployment) -> None:
    body, headers = await _anchor(cp), keyed(cp.name("key"))
    for _ in range(3):
        await cp.admin.post("/api/trust-anchors", body, headers)
    rows = expect.rows(await cp.admin.get("/api/trust-anchors", namespace=cp.namespace), "trustAnchors")
    expect.equal(sum(row["issuerUrl"] == body["issuerUrl"] for row in rows), 1, "the number of anchors made")


@check("5", "without the header a repeated request runs again")
async def no_key(cp: Deployment) -> None:
    body = await _webhook(cp)
    ids = {(await cp.admin.post("/api/webhooks", body)).ok(201)["id"] for _ in range(2)}
    expect.equal(len(ids), 2, "the number of webhooks made by two requests without the header")


@check("5", "another body under the same key is 422 `IDEMPOTENCY_KEY_REUSED`", extension=True)
async def reused(cp: Deployment) -> None:
    for case in (WEBHOOKS, ANCHORS, PINNED, EVENTS):
        headers = keyed(cp.name("key"))
        expect.status(await cp.admin.post(case.path, await case.body(cp), headers), case.status)
        expect.error(await cp.admin.post(case.path, await case.body(cp), headers), 422, "IDEMPOTENCY_KEY_REUSED")


@check("5", "the same key on two endpoints is two keys")
async def scoped_to_endpoint(cp: Deployment) -> None:
    headers = keyed(cp.name("key"))
    for case in (ANCHORS, PINNED, WEBHOOKS):
        response = await cp.admin.post(case.path, await case.body(cp), headers)
        expect.members(response.ok(case.status), ("createdAt",), f"the response of {case.path}")
        expect.that(REPLAYED not in response.headers, f"{case.path} replays the response of another endpoint")


@check(
    "5",
    "of concurrent requests with one key, one runs; the others are 409 `IDEMPOTENCY_IN_FLIGHT` or replays",
    extension=True,
)
async def at_once(cp: Deployment) -> None:
    body, headers = await _anchor(cp), keyed(cp.name("key"))
    responses = await asyncio.gather(*(cp.admin.post("/api/trust-anchors", body, headers) for _ in range(AT_ONCE)))
    for response in responses:
        expect.status(response, 201, 409)
        if response.status == 409:
            expect.error(response, 409, "IDEMPOTENCY_IN_FLIGHT")
            expect.header(response, "retry-after", "1")
    made = [response for response in responses if response.status == 201]
    expect.equal(sum(REPLAYED not in response.headers for response in made), 1, "how often the effect ran")
    expect.equal(len({response.json["id"] for response in made}), 1, "the number of different ids answered")


@check("5", "authentication comes before idempotency, and 401 is never stored")
async def gate_before_key(cp: Deployment) -> None:
    cp.require_key()
    body, headers = await _anchor(cp), keyed(cp.name("key"))
    stranger = cp.public.with_key(cp.run)
    expect.error(await stranger.post("/api/trust-anchors", body, headers), 401, "INVALID_API_KEY")
    made = await cp.admin.post("/api/trust-anchors", body, headers)
    expect.status(made, 201)
    expect.that(REPLAYED not in made.headers, "the response to a stranger was stored")
    expect.error(await stranger.post("/api/trust-anchors", body, headers), 401, "INVALID_API_KEY")


@check("5", "400 is stored")
async def refusal_stored(cp: Deployment) -> None:
    await _refused_twice(cp, {"issuerUrl": "ftp://issuer.example", "namespace": cp.namespace}, 400)


@check("5", "409 is stored")
async def conflict_stored(cp: Deployment) -> None:
    body = await _anchor(cp)
    expect.status(await cp.admin.post("/api/trust-anchors", body), 201)
    await _refused_twice(cp, body, 409)


async def _refused_twice(cp: Deployment, body: Any, status: int) -> None:
    headers = keyed(cp.name("key"))
    first = await cp.admin.post("/api/trust-anchors", body, headers)
    again = await cp.admin.post("/api/trust-anchors", body, headers)
    expect.status(first, status)
    expect.status(again, status)
    expect.header(again, REPLAYED, "true")
    expect.equal(again.json, first.json, "the replayed refusal")


@check("5", "413 is never stored")
async def oversize_not_stored(cp: Deployment) -> None:
    headers = keyed(cp.name("key"))
    expect.status(await cp.admin.post("/api/trust-anchors", padded(SMALL + 1), headers), 413)
    expect.status(await cp.admin.post("/api/trust-anchors", await _anchor(cp), headers), 201)


@check("5", "a key that is empty, over 255 characters or holds a control character is 400 `IDEMPOTENCY_KEY_INVALID`")
async def bad_keys(cp: Deployment) -> None:
    for key in ("", "k" * 256, "a\x85b"):
        response = await cp.admin.post("/api/trust-anchors", await _anchor(cp), keyed(key))
        expect.error(response, 400, "IDEMPOTENCY_KEY_INVALID")


@check("5", "a key of 255 characters is accepted")
async def longest_key(cp: Deployment) -> None:
    key = cp.name("key").ljust(255, "k")
    body = await _anchor(cp)
    made = (await cp.admin.post("/api/trust-anchors", body, keyed(key))).ok(201)
    again = (await cp.admin.post("/api/trust-anchors", body, keyed(key))).ok(201)
    expect.equal(again["id"], made["id"], "the id answered again")


@check("5", "the key of a registration is scoped to the enrolling AID", extension=True)
async def scoped_to_agent(cp: Deployment) -> None:
    first, second = await cp.shared(main_agent), await cp.shared(other_agent)
    keys = [agent.headers["Idempotency-Key"] for agent in (first, second)]
    expect.equal(keys[0], keys[1], "the keys of two agents' registrations")
    expect.that(REPLAYED not in second.response.headers, "an agent got the response to another agent")
    expect.equal(second.response.json.get("aid"), second.aid, "the AID in the response to the second agent")
