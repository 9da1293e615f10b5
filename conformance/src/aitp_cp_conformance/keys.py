"""Contract, section 18: keys and scopes."""

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

from aitp_cp_client.wire.times import iso, now
from aitp_cp_conformance import expect
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment, event
from aitp_cp_conformance.model import Skipped
from aitp_cp_conformance.responses import UNKNOWN_ID
from aitp_cp_conformance.wire import Caller

PATH = "/api/keys"
WHOAMI = "/api/whoami"
TOKEN = re.compile(r"acp_[0-9A-Za-z]{39}")
MEMBERS = (
    *("id", "family", "name", "shown", "scopes", "createdBy", "createdAt", "expiresAt"),
    *("revokedAt", "revokedReason", "replacedBy", "lastUsedAt", "lastUsedIp", "ratePerMin"),
)
SECRETS = ("key", "digest")
READS = (
    ("agents:read", "/api/containments"),
    ("events:read", "/api/events/history"),
    ("revocation:read", "/api/revocation/entries"),
    ("webhooks:read", "/api/webhooks"),
    ("trust:read", "/api/trust-anchors"),
    ("audit:read", "/api/audit"),
    ("dashboard:read", "/api/dashboard/agents"),
    ("keys:admin", PATH),
)
WRITES = (
    ("events:write", "POST", "/api/events"),
    ("revocation:write", "POST", "/api/revocation/entries"),
    ("agents:write", "DELETE", "/api/registry/agents/any"),
    ("agents:contain", "POST", "/api/registry/agents/any/contain"),
    ("webhooks:write", "DELETE", f"/api/webhooks/{UNKNOWN_ID}"),
    ("trust:write", "DELETE", f"/api/trust-anchors/{UNKNOWN_ID}"),
    ("keys:admin", "POST", PATH),
)
Key = dict[str, Any]

UNUSABLE: tuple[dict[str, Any], ...] = (
    {},
    {"name": "x"},
    {"role": "reporter"},
    {"name": "x", "role": "reporter", "scopes": ["events:write"]},
    {"name": "x", "role": "root"},
    {"name": "x", "scopes": []},
    {"name": "x", "scopes": ["events:all"]},
    {"name": "", "role": "reporter"},
    {"name": "x" * 101, "role": "reporter"},
    {"name": "a\u001b[2Jb", "role": "reporter"},
    {"name": "x", "role": "reporter", "expiresAt": "2020-01-01T00:00:00Z"},
    {"name": "x", "role": "reporter", "expiresAt": "10000-01-01T00:00:00Z"},
    {"name": "x", "role": "reporter", "ratePerMin": 0},
)


async def administrator(cp: Deployment) -> Caller:
    """Return the administrator; skip where the API key may not create keys, or no key is needed.

    Where no key is needed, the first key would close the gate for good.
    """
    cp.require_key()
    response = await cp.admin.get(WHOAMI)
    if "keys:admin" not in response.ok()["scopes"]:
        raise Skipped("the API key lacks the scope keys:admin")
    return cp.admin


async def create_key(cp: Deployment, **members: Any) -> Key:
    """Create a key: a reporter's, unless `members` say otherwise."""
    admin = await administrator(cp)
    given = {"role": "reporter"} if "scopes" not in members else {}
    body: Key = (await admin.post(PATH, {"name": cp.name("key"), **given, **members})).ok(201)
    return body


def caller_with(cp: Deployment, key: Key) -> Caller:
    return cp.public.with_key(key["key"])


@check("18", "`GET /api/whoami` names the holder of any valid credential", extension=True)
async def who_am_i(cp: Deployment) -> None:
    key = cp.require_key()
    response = await cp.admin.get(WHOAMI)
    expect.members(response.ok(), ("actor", "actorName", "kind", "scopes", "expiresAt"), "the response")
    expect.that(key.encode() not in response.body, "the response shows the key")
    expect.error(await cp.public.get(WHOAMI), 401, "INVALID_API_KEY")
    made = await create_key(cp)
    me = (await caller_with(cp, made).get(WHOAMI)).ok()
    expected = {"actor": f"key:{made['family']}", "actorName": made["name"], "kind": "key"}
    expect.equal({name: me[name] for name in expected}, expected, "the holder of a new key")
    expect.equal(me["scopes"], ["events:write"], "`scopes` of a reporter")


@check("18", "a created key is shown once, `acp_` and 39 characters, with every member of its row", extension=True)
async def created_key(cp: Deployment) -> None:
    made = await create_key(cp, ratePerMin=1000)
    expect.members(made, (*MEMBERS, "key"), "the response")
    expect.that(TOKEN.fullmatch(made["key"]), "`key` is not acp_ and 39 letters and digits")
    expect.equal(made["shown"], made["key"][:8], "`shown`")
    expect.uuid(made["id"], "`id`")
    expect.equal(made["family"], made["id"], "`family` of a first key")
    expect.equal((made["ratePerMin"], made["expiresAt"]), (1000, None), "`ratePerMin` and `expiresAt`")
    for response in (await cp.admin.get(f"{PATH}/{made['id']}"), await cp.admin.get(PATH, limit=100)):
        shown = response.ok()
        for row in shown.get("keys", [shown]):
            expect.members(row, MEMBERS, "a key")
            expect.has_no(SECRETS, row, "a key")
        expect.that(made["key"].encode() not in response.body, "a read shows the key")


@check("18", "a repeated creation with one `Idempotency-Key` makes one key, and shows it once", extension=True)
async def created_once(cp: Deployment) -> None:
    admin = await administrator(cp)
    body, headers = {"name": cp.name("key"), "role": "reporter"}, {"Idempotency-Key": str(uuid4())}
    first, again = [(await admin.post(PATH, body, headers)).ok(201) for _ in range(2)]
    expect.equal(again["id"], first["id"], "the id of the repetition")
    expect.has_no(SECRETS, again, "the repetition")


@check("18", "what cannot be a key is 400 `BODY_INVALID`", extension=True)
async def unusable_bodies(cp: Deployment) -> None:
    admin = await administrator(cp)
    for body in UNUSABLE:
        expect.error(await admin.post(PATH, body), 400, "BODY_INVALID")
    expect.error(await admin.get(f"{PATH}/no-uuid"), 400, "ID_INVALID")
    expect.error(await admin.get(f"{PATH}/{UNKNOWN_ID}"), 404, "NOT_FOUND")


@check("18", "a role is replaced by its scopes", extension=True)
async def roles(cp: Deployment) -> None:
    scopes = {role: set((await create_key(cp, role=role))["scopes"]) for role in ("admin", "operator", "auditor")}
    expect.equal(scopes["admin"] - scopes["operator"], {"keys:admin"}, "what an admin may and an operator may not")
    reads = {scope for scope in scopes["admin"] if scope.endswith(":read")}
    expect.equal(scopes["auditor"], reads, "the scopes of an auditor")


@check("18", "a request beyond the key's scopes is 403 `SCOPE_MISSING` with `required`", extension=True)
async def scope_missing(cp: Deployment) -> None:
    reporter, auditor = caller_with(cp, await create_key(cp)), caller_with(cp, await create_key(cp, role="auditor"))
    for scope, path in READS:
        body = expect.error(await reporter.get(path), 403, "SCOPE_MISSING")
        expect.equal(body.get("required"), scope, f"`required` of GET {path}")
    for scope, method, path in WRITES:
        body = expect.error(await auditor.call(method, path, b"{"), 403, "SCOPE_MISSING")
        expect.equal(body.get("required"), scope, f"`required` of {method} {path}")


@check("18", "a key passes where it has the scope", extension=True)
async def scope_held(cp: Deployment) -> None:
    auditor = caller_with(cp, await create_key(cp, role="auditor"))
    for scope, path in READS:
        if scope != "keys:admin":
            expect.status(await auditor.get(path), 200)
    single = caller_with(cp, await create_key(cp, scopes=["trust:read"]))
    expect.status(await single.get("/api/trust-anchors"), 200)
    expect.error(await single.get("/api/webhooks"), 403, "SCOPE_MISSING")
    body = (await caller_with(cp, await create_key(cp)).post("/api/events", [event("conformance.key")])).ok()
    expect.equal(body.get("inserted"), 1, "`inserted` for a reporter")


@check("18", "a token with a wrong checksum, or of no key, is 401 `INVALID_API_KEY`", extension=True)
async def wrong_tokens(cp: Deployment) -> None:
    key = (await create_key(cp))["key"]
    turned = key[:20] + ("a" if key[20] != "a" else "b") + key[21:]
    for token in (turned, key[:-1], f"{key}x", key.swapcase()):
        expect.error(await cp.public.with_key(token).get(WHOAMI), 401, "INVALID_API_KEY")


@check("18", "nobody grants a scope, a lifetime or a rate beyond his own", extension=True)
async def grants(cp: Deployment) -> None:
    ends = now() + timedelta(hours=1)
    members = {"scopes": ["keys:admin", "events:read"], "expiresAt": iso(ends), "ratePerMin": 1000}
    limited = caller_with(cp, await create_key(cp, **members))
    within = {"name": cp.name("key"), "scopes": ["events:read"], "expiresAt": iso(ends), "ratePerMin": 10}
    expect.status(await limited.post(PATH, within), 201)
    for beyond in (
        {"scopes": ["events:write"]},
        {"expiresAt": None},
        {"expiresAt": iso(ends + timedelta(minutes=1))},
        {"ratePerMin": 1001},
    ):
        expect.error(await limited.post(PATH, {**within, **beyond}), 403, "GRANT_EXCEEDED")
    stronger = await create_key(cp, role="operator")
    expect.error(await limited.post(f"{PATH}/{stronger['id']}/rotate"), 403, "GRANT_EXCEEDED")
    expect.error(await limited.patch(f"{PATH}/{stronger['id']}", {"name": "x"}), 403, "GRANT_EXCEEDED")


@check("18", "name and rate can be changed", extension=True)
async def changes(cp: Deployment) -> None:
    made = await create_key(cp)
    name, path = cp.name("renamed"), f"{PATH}/{made['id']}"
    changed = (await cp.admin.patch(path, {"name": name, "ratePerMin": 7})).ok()
    expect.equal((changed["name"], changed["ratePerMin"]), (name, 7), "name and rate after the change")
    expect.equal((await cp.admin.patch(path, {"ratePerMin": None})).ok()["ratePerMin"], None, "`ratePerMin`")
    expect.error(await cp.admin.patch(path, {"name": ""}), 400, "BODY_INVALID")
