"""Contract, section 12: subscriptions."""

import hashlib
import re
from typing import Any

from aitp_cp_conformance import expect
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment
from aitp_cp_conformance.hooks import hook_host, hook_url
from aitp_cp_conformance.responses import UNKNOWN_ID

PATH = "/api/webhooks"
MEMBERS = ("id", "url", "events", "active", "createdAt", "updatedAt")
BREAKER = ("state", "failures", "consecutiveSuccesses", "openedAt", "nextProbeAt")
TYPES = [
    "agent.registered",
    "agent.expired",
    "agent.deregistered",
    "agent.contained",
    "agent.released",
    "handshake.complete",
    "handshake.failed",
    "tct.revoked",
    "token.forged",
]
# An operator may allow some of PRIVATE, but none of NEVER.
PRIVATE = (
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "[::1]",
    "[fc00::1]",
    "[::ffff:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "localhost",
)
NEVER = (
    "169.254.169.254",
    "0.0.0.0",  # noqa: S104 - an address that must be refused
    "224.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "255.255.255.255",
    "[::]",
    "[fe80::1]",
    "[2001:db8::1]",
    "[64:ff9b::a9fe:a9fe]",
)


async def subscribe(cp: Deployment, **body: Any) -> dict[str, Any]:
    """Create a webhook; inactive by default, so that nothing is sent to it."""
    payload = {"url": await hook_url(cp), "active": False, **body}
    record: dict[str, Any] = (await cp.admin.post(PATH, payload)).ok(201)
    expect.members(record, MEMBERS, "a webhook")
    return record


async def webhook(cp: Deployment) -> dict[str, Any]:
    """Create the webhook that checks share."""
    return await subscribe(cp, events=["tct.revoked"], secret="conformance-secret")  # noqa: S106 - of this run only


@check("12", "creating a webhook is 201 with the secret of the request")
async def created(cp: Deployment) -> None:
    record = await cp.shared(webhook)
    shown = (record["events"], record["active"], record["secret"])
    expect.equal(shown, (["tct.revoked"], False, "conformance-secret"), "events, active and secret")
    expect.uuid(record["id"], "its id")
    for name in ("createdAt", "updatedAt"):
        expect.moment(record[name], name)


@check("12", "without a secret one is generated: 32 random bytes in hex")
async def generated_secret(cp: Deployment) -> None:
    secrets = {(await subscribe(cp))["secret"] for _ in range(2)}
    expect.equal(len(secrets), 2, "the number of different secrets of two webhooks")
    for secret in secrets:
        expect.that(re.fullmatch("[0-9a-f]{64}", secret), "a generated secret is not 64 hex digits")


@check("12", "the secret is shown only in the response to the creation")
async def secret_once(cp: Deployment) -> None:
    hook = await cp.shared(webhook)
    listing = await cp.admin.get(PATH)
    for row in expect.rows(listing, "webhooks"):
        expect.has_no(["secret"], row, "the list of webhooks")
    expect.that(b"conformance-secret" not in listing.body, "the list shows a secret")
    patched = await cp.admin.patch(f"{PATH}/{hook['id']}", {"active": False})
    expect.has_no(["secret"], patched.ok(), "the response to a change")
    expect.that(b"conformance-secret" not in (await cp.admin.get("/api/audit", limit=200)).body, "the audit shows it")


@check("12", "`GET /api/webhooks` lists every webhook without its secret")
async def listed(cp: Deployment) -> None:
    hook = await cp.shared(webhook)
    rows = expect.rows(await cp.admin.get(PATH), "webhooks")
    for row in rows:
        expect.members(row, MEMBERS, "a webhook")
    expect.that(hook["id"] in [row["id"] for row in rows], "the list lacks a webhook")


@check("12", "`GET /api/webhooks/{id}` is the record", extension=True)
async def fetched(cp: Deployment) -> None:
    hook = await subscribe(cp)
    record = (await cp.admin.get(f"{PATH}/{hook['id']}")).ok()
    expect.equal(record, {name: hook[name] for name in MEMBERS}, "the record")


@check("12", "empty or absent `events` are all deliverable types")
async def all_types(cp: Deployment) -> None:
    bodies: tuple[dict[str, Any], ...] = ({}, {"events": []}, {"events": TYPES})
    for body in bodies:
        record = await subscribe(cp, **body)
        expect.that(isinstance(record["events"], list), "`events` is not a list")
        expect.that(set(record["events"]) in (set(), set(TYPES)), f"`events` is {record['events']}")


@check("12", "an unknown type is 400 `BODY_INVALID`", extension=True)
async def unknown_type(cp: Deployment) -> None:
    for kind in ("no.such.type", "", "tct.issued", "webhook.test"):
        body = {"url": await hook_url(cp), "events": ["tct.revoked", kind]}
        expect.error(await cp.admin.post(PATH, body), 400, "BODY_INVALID")
    hook = await cp.shared(webhook)
    expect.error(await cp.admin.patch(f"{PATH}/{hook['id']}", {"events": ["no.such.type"]}), 400, "BODY_INVALID")


@check("12", "a secret has 1 to 255 characters")
async def secret_length(cp: Deployment) -> None:
    for secret in ("", "s" * 256, 7):
        body = {"url": await hook_url(cp), "secret": secret}
        expect.error(await cp.admin.post(PATH, body), 400, "BODY_INVALID")
    expect.equal((await subscribe(cp, secret="s" * 255))["secret"], "s" * 255, "the longest secret")


@check("12", "a string that is not a URL is 400 `BODY_INVALID`")
async def no_url(cp: Deployment) -> None:
    for url in ("", "not a url", "hooks.example/path", "//hooks.example/"):
        expect.error(await cp.admin.post(PATH, {"url": url}), 400, "BODY_INVALID")


@check("12", "a URL of another scheme is 400 `URL_NOT_ALLOWED`")
async def other_schemes(cp: Deployment) -> None:
    for url in ("ftp://hooks.example/", "file:///etc/passwd", "gopher://hooks.example/", "ws://hooks.example/"):
        expect.error(await cp.admin.post(PATH, {"url": url}), 400, "URL_NOT_ALLOWED")


@check("12", "in production a URL must be https")
async def plain_url(cp: Deployment) -> None:
    cp.require_environment("production")
    url = (await hook_url(cp)).replace("https:", "http:")
    expect.error(await cp.admin.post(PATH, {"url": url}), 400, "URL_NOT_ALLOWED")


@check("12", "a URL with credentials is 400 `URL_NOT_ALLOWED`", extension=True)
async def credentials(cp: Deployment) -> None:
    host = await cp.shared(hook_host)
    for url in (f"https://user:password@{host}/", f"https://user@{host}/"):
        response = await cp.admin.post(PATH, {"url": url})
        expect.error(response, 400, "URL_NOT_ALLOWED")
        expect.that(b"password" not in response.body, "the refusal repeats the password")


@check("12", "a URL without a global unicast address is 400 `URL_NOT_ALLOWED`", extension=True)
async def internal_addresses(cp: Deployment) -> None:
    for host in NEVER if cp.options.receiver_host else (*NEVER, *PRIVATE):
        expect.error(await cp.admin.post(PATH, {"url": f"https://{host}/hook"}), 400, "URL_NOT_ALLOWED")


@check("12", "an internal address in another notation is 400 `URL_NOT_ALLOWED`", extension=True)
async def disguises(cp: Deployment) -> None:
    for host in ("2130706433", "0x7f000001", "0177.0.0.1", "127.1", "169.254.169.254."):
        expect.error(await cp.admin.post(PATH, {"url": f"https://{host}/"}), 400, "URL_NOT_ALLOWED")


@check("12", "a change to a refused URL is 400 `URL_NOT_ALLOWED`", extension=True)
async def refused_change(cp: Deployment) -> None:
    hook = await subscribe(cp)
    response = await cp.admin.patch(f"{PATH}/{hook['id']}", {"url": "https://169.254.169.254/"})
    expect.error(response, 400, "URL_NOT_ALLOWED")
    kept = [row["url"] for row in expect.rows(await cp.admin.get(PATH), "webhooks") if row["id"] == hook["id"]]
    expect.equal(kept, [hook["url"]], "the URL after a refused change")


@check("12", "`PATCH` changes only the members in its body and answers the record")
async def patched(cp: Deployment) -> None:
    hook = await subscribe(cp, events=["tct.revoked"])
    url = await hook_url(cp)
    body = (await cp.admin.patch(f"{PATH}/{hook['id']}", {"url": url})).ok()
    expect.equal((body["url"], body["events"], body["active"]), (url, ["tct.revoked"], False), "the record")
    body = (await cp.admin.patch(f"{PATH}/{hook['id']}", {"events": ["agent.expired"]})).ok()
    expect.equal((body["url"], body["events"]), (url, ["agent.expired"]), "the record after the second change")
    expect.that(body["updatedAt"] >= hook["updatedAt"], "updatedAt went backwards")


@check("12", "a change of the host makes a new secret, shown only in that response", extension=True)
async def moved(cp: Deployment) -> None:
    hook = await subscribe(cp, events=["tct.revoked"])
    path = f"{PATH}/{hook['id']}"
    expect.has_no(["secret"], (await cp.admin.patch(path, {"url": f"{hook['url']}?x"})).ok(), "a change of the path")
    scheme, _, rest = hook["url"].partition("://")
    host, _, _ = rest.partition("/")
    url = f"{scheme}://{host.rpartition(':')[0] or host}:8443/moved"
    changed = (await cp.admin.patch(path, {"url": url})).ok()
    expect.that(changed.get("secret") not in (None, hook["secret"]), "the response shows no new secret")
    expect.has_no(["secret"], (await cp.admin.get(path)).ok(), "the record afterwards")
    changed = (await cp.admin.patch(path, {"url": hook["url"], "secret": "sent-with-the-host"})).ok()
    expect.equal(changed.get("secret"), "sent-with-the-host", "the secret of the request")


@check("12", "the audit holds no URL of a webhook, only its host and a digest", extension=True)
async def audited_without_url(cp: Deployment) -> None:
    url = f"{await hook_url(cp)}?token={cp.name('in-the-url')}"
    hook = (await cp.admin.post(PATH, {"url": url, "active": False})).ok(201)
    response = await cp.admin.get("/api/audit", limit=50)
    (details,) = [row["details"] for row in expect.rows(response, "entries") if row["targetId"] == hook["id"]]
    await cp.admin.delete(f"{PATH}/{hook['id']}")
    expect.that(url.partition("?token=")[2].encode() not in response.body, "the audit shows the query of a URL")
    expect.equal(details["urlSha256"], hashlib.sha256(url.encode()).hexdigest(), "the digest")


@check("12", "`PUT` does the same as `PATCH`")
async def put(cp: Deployment) -> None:
    hook = await subscribe(cp, events=["tct.revoked"])
    changed = (await cp.admin.put(f"{PATH}/{hook['id']}", {"events": ["agent.expired"]})).ok()
    expect.equal((changed["url"], changed["events"]), (hook["url"], ["agent.expired"]), "the record")


@check("12", "a new secret is audited as `secretRotated: true`, without its value")
async def rotated(cp: Deployment) -> None:
    hook, secret = await subscribe(cp), cp.name("rotated-secret")
    expect.has_no(["secret"], (await cp.admin.patch(f"{PATH}/{hook['id']}", {"secret": secret})).ok(), "the response")
    response = await cp.admin.get("/api/audit", limit=50)
    rows = [row for row in expect.rows(response, "entries") if row["targetId"] == hook["id"]]
    details = [row["details"] for row in rows if row["action"] == "webhook.update"]
    expect.equal([shown.get("secretRotated") for shown in details], [True], "secretRotated of its audit rows")
    expect.that(secret.encode() not in response.body, "the audit shows the secret")


@check("12", "`DELETE` answers {id, deleted: true}, and the webhook is gone")
async def deleted(cp: Deployment) -> None:
    id = (await subscribe(cp))["id"]
    expect.equal((await cp.admin.delete(f"{PATH}/{id}")).ok(), {"id": id, "deleted": True}, "the response")
    expect.error(await cp.admin.delete(f"{PATH}/{id}"), 404, "NOT_FOUND")
    ids = [row["id"] for row in expect.rows(await cp.admin.get(PATH), "webhooks")]
    expect.that(id not in ids, "the list holds a deleted webhook")


@check("12", "an unknown webhook is 404 `NOT_FOUND`")
async def unknown(cp: Deployment) -> None:
    path = f"{PATH}/{UNKNOWN_ID}"
    for response in (
        await cp.admin.patch(path, {"active": False}),
        await cp.admin.delete(path),
        await cp.admin.get(f"{path}/circuit-breaker"),
        await cp.admin.post(f"{path}/circuit-breaker/reset"),
    ):
        expect.error(response, 404, "NOT_FOUND")


@check("12", "an unknown webhook is 404 `NOT_FOUND` on the routes of extensions", extension=True)
async def unknown_of_extensions(cp: Deployment) -> None:
    path = f"{PATH}/{UNKNOWN_ID}"
    for response in (
        await cp.admin.get(path),
        await cp.admin.get(f"{path}/deliveries"),
        await cp.admin.post(f"{path}/test"),
        await cp.admin.post(f"{path}/deliveries/{UNKNOWN_ID}/redeliver"),
    ):
        expect.error(response, 404, "NOT_FOUND")


@check("12", "a new webhook's circuit breaker is closed")
async def breaker(cp: Deployment) -> None:
    hook = await cp.shared(webhook)
    body = (await cp.admin.get(f"{PATH}/{hook['id']}/circuit-breaker")).ok()
    expect.members(body, BREAKER, "the breaker")
    shown = (body["state"], body["failures"], body["openedAt"], body["nextProbeAt"])
    expect.equal(shown, ("closed", 0, None, None), "the breaker of a new webhook")


@check("12", "resetting a breaker answers the closed breaker, and is audited")
async def breaker_reset(cp: Deployment) -> None:
    hook = await cp.shared(webhook)
    body = (await cp.admin.post(f"{PATH}/{hook['id']}/circuit-breaker/reset")).ok()
    expect.equal(body["state"], "closed", "the state after a reset")
    actions = await cp.audit_actions(hook["id"])
    expect.that("webhook.circuit-breaker.reset" in actions, f"the audited actions are {actions}")


@check("12", "creation, change and deletion are audited")
async def audited(cp: Deployment) -> None:
    id = (await subscribe(cp))["id"]
    await cp.admin.patch(f"{PATH}/{id}", {"active": False})
    await cp.admin.delete(f"{PATH}/{id}")
    actions = await cp.audit_actions(id)
    expect.equal(actions, ["webhook.delete", "webhook.update", "webhook.create"], "the audited actions, newest first")


@check("12", "a new webhook has no deliveries", extension=True)
async def no_deliveries(cp: Deployment) -> None:
    hook = await subscribe(cp)
    body = (await cp.admin.get(f"{PATH}/{hook['id']}/deliveries")).ok()
    expect.equal(body, {"deliveries": [], "count": 0}, "the deliveries of a new webhook")
