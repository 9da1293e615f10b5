"""Contract, section 22: the attempts of deliveries, the health of webhooks, and what is queued after an outage."""

from aitp_cp_conformance import expect
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deliveries import fail_handshake, next_of, settled, subscribed
from aitp_cp_conformance.deployment import Deployment

ATTEMPT = ("n", "at", "ms", "status", "error", "responseHead", "truncated")
HEALTH = ("active", "breaker", "nextProbeAt", "lastHour", "lastDay", "waiting", "oldestWaitingAt", "p95Ms")
QUEUED = ("matched", "queued", "more")
EVER = "1970-01-02T00:00:00Z"


@check("22", "`…/attempts` shows each attempt with the beginning of the response, without our secret", extension=True)
async def attempts(cp: Deployment) -> None:
    async with subscribed(cp, "handshake.failed") as hook:
        hook.receiver.headers = {"X-Echo": hook.secret}
        await next_of(hook, await fail_handshake(cp))
        delivery = await settled(cp, hook, "delivered")
        [attempt] = expect.rows(await cp.admin.get(f"{hook.path}/deliveries/{delivery['id']}/attempts"), "attempts")
        expect.members(attempt, ATTEMPT, "an attempt")
        expect.equal((attempt["n"], attempt["status"], attempt["error"]), (1, 200, None), "the attempt")
        expect.that("x-echo" in attempt["responseHead"].lower(), "the response's header fields are not shown")
        expect.that(hook.secret not in attempt["responseHead"], "an attempt shows the webhook's secret")


@check("22", "`…/health` counts what became of a webhook's deliveries", extension=True)
async def health(cp: Deployment) -> None:
    async with subscribed(cp, "handshake.failed") as hook:
        await next_of(hook, await fail_handshake(cp))
        await settled(cp, hook, "delivered")
        body = (await cp.admin.get(f"{hook.path}/health")).ok()
        expect.members(body, HEALTH, "the health of a webhook")
        expect.equal(body["lastHour"], {"delivered": 1, "failed": 0, "waiting": 0}, "the last hour")
        expect.equal((body["active"], body["breaker"], body["waiting"]), (True, "closed", 0), "the state")


@check("22", "`resend` queues what matches, once under an Idempotency-Key; a dry run queues nothing", extension=True)
async def resend(cp: Deployment) -> None:
    async with subscribed(cp, "handshake.failed") as hook:
        first = await next_of(hook, await fail_handshake(cp))
        await settled(cp, hook, "delivered")
        path, body = f"{hook.path}/resend", {"status": "delivered", "code": "2xx"}
        plan = (await cp.admin.post(f"{path}?dryRun=true", body)).ok(200)
        expect.members(plan, QUEUED, "the plan")
        expect.equal((plan["matched"], plan["queued"]), (1, 0), "the plan")
        headers = {"Idempotency-Key": cp.name("resend")}
        done = (await cp.admin.post(path, body, headers)).ok(202)
        expect.equal((done["matched"], done["queued"], done["more"]), (1, 1, False), "what was queued")
        again = await hook.receiver.next("handshake.failed")
        expect.that(again.body == first.body, "the bytes sent again differ")
        expect.equal((await cp.admin.post(path, body, headers)).ok(202), done, "the repeated answer")
        expect.error(await cp.admin.post(path, {}), 400, "BODY_INVALID")


@check("22", "`replay-missing` sends what a paused webhook missed, and nothing twice", extension=True)
async def replay_missing(cp: Deployment) -> None:
    async with subscribed(cp, "handshake.failed") as hook:
        (await cp.admin.patch(hook.path, {"active": False})).ok()
        run = await fail_handshake(cp)
        (await cp.admin.patch(hook.path, {"active": True})).ok()
        path = f"{hook.path}/replay-missing"
        done = (await cp.admin.post(path, {"since": EVER})).ok(202)
        expect.that(done["queued"] >= 1, "nothing was queued of what the webhook missed")
        await next_of(hook, run)
        expect.equal((await cp.admin.post(path, {"since": EVER})).ok(202)["queued"], 0, "what a second replay queues")


@check("22", "`recover` queues what failed in its window", extension=True)
async def recover(cp: Deployment) -> None:
    async with subscribed(cp, "handshake.failed") as hook:
        (await cp.admin.patch(hook.path, {"active": False})).ok()
        expect.status(await cp.admin.post(f"{hook.path}/test"), 202)  # fails at once
        path = f"{hook.path}/recover"
        early = (await cp.admin.post(path, {"since": EVER, "until": "1971-01-01T00:00:00Z"})).ok(202)
        expect.equal(early["matched"], 0, "what matches in 1970")
        expect.equal((await cp.admin.post(path, {"since": EVER})).ok(202)["queued"], 1, "what is recovered")
        expect.error(await cp.admin.post(path, {}), 400, "BODY_INVALID")
