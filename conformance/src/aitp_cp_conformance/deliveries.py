"""Contract, section 12: deliveries to a receiver on this machine. Skipped without --receiver-host."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from aitp_cp_conformance import expect
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment, event
from aitp_cp_conformance.model import Broken
from aitp_cp_conformance.webhooks import PATH

ARRIVES_WITHIN_SECS = 15.0
DELIVERY = ("id", "eventType", "status", "attempts", "statusCode", "error", "createdAt", "deliveredAt", "nextRetryAt")


@dataclass(frozen=True, slots=True)
class Received:
    """A received request; header names are lowercase."""

    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.body)
        return body


@dataclass(slots=True)
class Receiver:
    """A web server that queues requests and answers each with `status` and `headers`."""

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    requests: asyncio.Queue[Received] = field(default_factory=asyncio.Queue)

    async def answer(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.put_nowait(Received(headers, await request.read()))
        return web.Response(status=self.status, headers=self.headers)

    async def next(self, kind: str) -> Received:
        """Return the next delivery of this type and drop the others."""
        try:
            return await asyncio.wait_for(self._first(kind), ARRIVES_WITHIN_SECS)
        except TimeoutError:
            raise Broken(f"no delivery of {kind} arrived within {ARRIVES_WITHIN_SECS:g} s") from None

    async def _first(self, kind: str) -> Received:
        while True:
            received = await self.requests.get()
            if received.headers.get("x-aitp-event") == kind:
                return received


@dataclass(frozen=True, slots=True)
class Subscription:
    """A webhook and the receiver of its deliveries."""

    id: str
    secret: str
    receiver: Receiver

    @property
    def path(self) -> str:
        return f"{PATH}/{self.id}"


@asynccontextmanager
async def subscribed(cp: Deployment, *events: str) -> AsyncIterator[Subscription]:
    """Yield a receiver and its webhook; remove both afterwards."""
    host = cp.options.receiver_host
    if host is None:
        cp.skip("name an address of this machine that the deployment may send to with --receiver-host")
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, 0)
        await site.start()
        receiver.url = f"http://{host}:{runner.addresses[0][1]}/hook"
        secret = cp.name("secret")
        made = (await cp.admin.post(PATH, {"url": receiver.url, "events": list(events), "secret": secret})).ok(201)
        yield Subscription(made["id"], secret, receiver)
        await cp.admin.delete(f"{PATH}/{made['id']}")
    finally:
        await runner.cleanup()


async def fail_handshake(cp: Deployment) -> str:
    """Report a handshake that failed; return its run."""
    run = cp.name("run")
    await cp.report(event("handshake.failed", run_id=run, session_id=cp.name("session"), payload={"error": "x"}))
    return run


async def next_of(hook: Subscription, run: str) -> Received:
    while True:
        received = await hook.receiver.next("handshake.failed")
        if received.json["payload"]["runId"] == run:
            return received


async def settled(cp: Deployment, hook: Subscription, status: str) -> dict[str, Any]:
    """Wait until the newest delivery has this status; return it."""

    async def look() -> dict[str, Any] | None:
        rows = expect.rows(await cp.admin.get(f"{hook.path}/deliveries", limit=1), "deliveries")
        return rows[0] if rows and rows[0]["status"] == status else None

    return await cp.eventually(look, f"a delivery that is {status}", ARRIVES_WITHIN_SECS)


@check("12", "an event is delivered as {deliveryId, eventType, payload: the event, enqueuedAt}")
async def delivered(cp: Deployment) -> None:
    async with subscribed(cp, "handshake.failed") as hook:
        run = await fail_handshake(cp)
        delivery = (await next_of(hook, run)).json
        expect.equal(set(delivery), {"deliveryId", "eventType", "payload", "enqueuedAt"}, "the members of a delivery")
        [stored] = await cp.history(runId=run)
        shown = {name: delivery["payload"].get(name) for name in ("id", "type", "ts", "sessionId", "payload")}
        expect.equal(shown, {name: stored[name] for name in shown}, "the event delivered")
        expect.moment(delivery["enqueuedAt"], "enqueuedAt")


@check("12", "a delivery has headers for its event type and its id, and signs its body")
async def signed(cp: Deployment) -> None:
    async with subscribed(cp, "handshake.failed") as hook:
        received = await next_of(hook, await fail_handshake(cp))
        delivery = received.json
        names = (received.headers.get("x-aitp-event"), received.headers.get("x-aitp-delivery"))
        expect.equal(names, (delivery["eventType"], delivery["deliveryId"]), "X-Aitp-Event and X-Aitp-Delivery")
        expect.that(received.headers.get("content-type", "").startswith("application/json"), "it is not JSON")
        expected = "sha256=" + hmac.new(hook.secret.encode(), received.body, hashlib.sha256).hexdigest()
        expect.that(received.headers.get("x-aitp-signature") == expected, "X-AITP-Signature does not verify")


@check("12", "a delivery carries the Standard Webhooks signature", extension=True)
async def signed_by_standard(cp: Deployment) -> None:
    async with subscribed(cp, "handshake.failed") as hook:
        received = await next_of(hook, await fail_handshake(cp))
        id, stamp = received.headers.get("webhook-id", ""), received.headers.get("webhook-timestamp", "")
        expect.equal(id, received.json["deliveryId"], "webhook-id")
        expect.that(stamp.isdigit() and abs(int(stamp) - time.time()) < 300, f"webhook-timestamp is {stamp!r}")
        digest = hmac.new(hook.secret.encode(), f"{id}.{stamp}.".encode() + received.body, hashlib.sha256).digest()
        expected = "v1," + base64.b64encode(digest).decode()
        expect.that(received.headers.get("webhook-signature") == expected, "webhook-signature does not verify")
        expect.that(received.headers.get("user-agent"), "no User-Agent")


@check("12", "types outside the subscription are not delivered")
async def only_subscribed(cp: Deployment) -> None:
    async with subscribed(cp, "handshake.failed") as hook:
        await cp.report(event("handshake.complete", session_id=cp.name("session")))
        await next_of(hook, await fail_handshake(cp))
        kinds = [
            hook.receiver.requests.get_nowait().headers["x-aitp-event"] for _ in range(hook.receiver.requests.qsize())
        ]
        expect.that("handshake.complete" not in kinds, "a type outside the subscription is delivered")


@check("12", "an inactive webhook is sent nothing new")
async def inactive(cp: Deployment) -> None:
    async with subscribed(cp, "handshake.failed") as quiet, subscribed(cp, "handshake.failed") as loud:
        (await cp.admin.patch(quiet.path, {"active": False})).ok()
        await next_of(loud, await fail_handshake(cp))
        expect.equal(quiet.receiver.requests.qsize(), 0, "the number of deliveries to an inactive webhook")


@check("12", "a test is 202 and sends a `webhook.test` delivery", extension=True)
async def tested(cp: Deployment) -> None:
    async with subscribed(cp, "tct.revoked") as hook:
        expect.members((await cp.admin.post(f"{hook.path}/test")).ok(202), DELIVERY, "the response")
        received = await hook.receiver.next("webhook.test")
        expect.equal(received.json["eventType"], "webhook.test", "eventType")


@check("12", "the delivery log shows each delivery and its outcome", extension=True)
async def logged(cp: Deployment) -> None:
    async with subscribed(cp, "tct.revoked") as hook:
        await cp.admin.post(f"{hook.path}/test")
        row = await settled(cp, hook, "delivered")
        expect.members(row, DELIVERY, "a delivery")
        shown = (row["eventType"], row["attempts"], row["statusCode"], row["error"])
        expect.equal(shown, ("webhook.test", 1, 200, None), "the delivery")
        for status, expected in (("delivered", 1), ("failed", 0)):
            body = (await cp.admin.get(f"{hook.path}/deliveries", status=status)).ok()
            expect.equal(body["count"], expected, f"the count of deliveries {status}")


@check("12", "`redeliver` is 202 and sends the same bytes again", extension=True)
async def redelivered(cp: Deployment) -> None:
    async with subscribed(cp, "tct.revoked") as hook:
        await cp.admin.post(f"{hook.path}/test")
        first = await hook.receiver.next("webhook.test")
        row = await settled(cp, hook, "delivered")
        expect.status(await cp.admin.post(f"{hook.path}/deliveries/{row['id']}/redeliver"), 202)
        again = await hook.receiver.next("webhook.test")
        expect.that(again.body == first.body, "the bytes sent again differ")


@check("12", "a redirect is a failure and is never followed")
async def not_followed(cp: Deployment) -> None:
    async with subscribed(cp, "handshake.failed") as hook, subscribed(cp, "tct.revoked") as elsewhere:
        hook.receiver.status, hook.receiver.headers = 307, {"Location": elsewhere.receiver.url}
        await next_of(hook, await fail_handshake(cp))

        async def counted() -> bool | None:
            body = (await cp.admin.get(f"{hook.path}/circuit-breaker")).ok()
            return True if body["failures"] >= 1 else None

        await cp.eventually(counted, "a failure counted by the breaker", ARRIVES_WITHIN_SECS)
        expect.equal(elsewhere.receiver.requests.qsize(), 0, "the number of requests that followed a redirect")


@check("12", "410 deactivates the webhook", extension=True)
async def gone(cp: Deployment) -> None:
    async with subscribed(cp, "handshake.failed") as hook:
        hook.receiver.status = 410
        await next_of(hook, await fail_handshake(cp))

        async def deactivated() -> bool | None:
            return True if not (await cp.admin.get(hook.path)).ok()["active"] else None

        await cp.eventually(deactivated, "a webhook deactivated by 410", ARRIVES_WITHIN_SECS)
