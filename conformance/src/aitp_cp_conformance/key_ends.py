"""Contract, section 18: rotation and revocation of keys, and what the audit and the log hold of them."""

from uuid import uuid4

from aitp_cp_conformance import expect
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment, event
from aitp_cp_conformance.keys import PATH, SECRETS, WHOAMI, Key, caller_with, create_key

AUDIT = "/api/audit"
TYPES = ("apikey.created", "apikey.rotated", "apikey.revoked")


async def rotate(cp: Deployment, key: Key, overlap_secs: int) -> Key:
    body: Key = (await cp.admin.post(f"{PATH}/{key['id']}/rotate", {"overlapSecs": overlap_secs})).ok(201)
    return body


@check(
    "18", "a rotated key keeps family, name, scopes and limits, and both keys pass during the overlap", extension=True
)
async def rotated(cp: Deployment) -> None:
    old = await create_key(cp, ratePerMin=1000)
    new = await rotate(cp, old, 3600)
    for name in ("family", "name", "scopes", "ratePerMin", "expiresAt"):
        expect.equal(new[name], old[name], f"`{name}` after the rotation")
    expect.that(new["key"] != old["key"], "the key is the same after the rotation")
    actors = [(await caller_with(cp, key).get(WHOAMI)).ok()["actor"] for key in (old, new)]
    expect.equal(actors[0], actors[1], "the actor after the rotation")
    shown = (await cp.admin.get(f"{PATH}/{old['id']}")).ok()
    expect.equal(shown["replacedBy"], new["id"], "`replacedBy`")
    expect.that(shown["expiresAt"], "the old key has no end")


@check("18", "without an overlap the old key ends at once: 401 `API_KEY_EXPIRED`", extension=True)
async def rotated_at_once(cp: Deployment) -> None:
    old = await create_key(cp)
    new = await rotate(cp, old, 0)
    expect.error(await caller_with(cp, old).get(WHOAMI), 401, "API_KEY_EXPIRED")
    expect.status(await caller_with(cp, new).get(WHOAMI), 200)
    expect.error(await cp.admin.post(f"{PATH}/{old['id']}/rotate"), 409, "KEY_NOT_ACTIVE")


@check("18", "an overlap is 0 to 604800 seconds", extension=True)
async def overlaps(cp: Deployment) -> None:
    path = f"{PATH}/{(await create_key(cp))['id']}/rotate"
    for overlap in (-1, 604_801, "5", None):
        expect.error(await cp.admin.post(path, {"overlapSecs": overlap}), 400, "BODY_INVALID")


@check("18", "events that are sent again after a rotation are duplicates", extension=True)
async def event_ids(cp: Deployment) -> None:
    old = await create_key(cp)
    batch = [event("conformance.key", id=str(uuid4()))]
    expect.equal((await caller_with(cp, old).post("/api/events", batch)).ok().get("inserted"), 1, "`inserted`")
    new = await rotate(cp, old, 3600)
    again = (await caller_with(cp, new).post("/api/events", batch)).ok()
    expect.equal((again.get("inserted"), again.get("duplicates")), (0, 1), "`inserted` and `duplicates`")


@check("18", "a revoked key is 401 `API_KEY_REVOKED`; its row stays", extension=True)
async def revoked(cp: Deployment) -> None:
    key = await create_key(cp)
    path = f"{PATH}/{key['id']}"
    done = (await cp.admin.delete(path, reason="a check")).ok()
    expect.equal((done["id"], done["revoked"]), (key["id"], True), "the response")
    expect.error(await caller_with(cp, key).get(WHOAMI), 401, "API_KEY_REVOKED")
    expect.status(await cp.admin.delete(path), 200)
    row = (await cp.admin.get(path)).ok()
    expect.that(row["revokedAt"], "`revokedAt` is empty")
    expect.equal(row["revokedReason"], "a check", "`revokedReason`")
    expect.error(await cp.admin.post(f"{path}/rotate"), 409, "KEY_NOT_ACTIVE")
    listed = {state: await _ids(cp, state) for state in ("active", "revoked", "all")}
    expect.equal(
        [state for state in listed if key["id"] in listed[state]], ["revoked", "all"], "the lists that have it"
    )


async def _ids(cp: Deployment, state: str) -> list[str]:
    return [row["id"] for row in expect.rows(await cp.admin.get(PATH, state=state, limit=100), "keys")]


@check("18", "revoking a family ends every key that rotations have made", extension=True)
async def family(cp: Deployment) -> None:
    old = await create_key(cp)
    new = await rotate(cp, old, 3600)
    await cp.admin.delete(f"{PATH}/{old['id']}", family="true")
    for key in (old, new):
        expect.error(await caller_with(cp, key).get(WHOAMI), 401, "API_KEY_REVOKED")


@check("18", "the audit names the key that acted, and holds no secret", extension=True)
async def audited(cp: Deployment) -> None:
    admin = await create_key(cp, role="admin")
    caller = caller_with(cp, admin)
    made: Key = (await caller.post(PATH, {"name": cp.name("key"), "role": "reporter"})).ok(201)
    await caller.patch(f"{PATH}/{made['id']}", {"name": cp.name("renamed")})
    await caller.delete(f"{PATH}/{made['id']}")
    response = await cp.admin.get(AUDIT, limit=50)
    rows = [row for row in expect.rows(response, "entries") if row["targetId"] == made["id"]]
    expect.equal([row["action"] for row in rows], ["key.revoke", "key.update", "key.create"], "the actions on the key")
    actors = {(row["actorId"], row["actorName"]) for row in rows}
    expect.equal(actors, {(f"key:{admin['family']}", admin["name"])}, "`actorId` and `actorName`")
    expect.that(not any(key["key"].encode() in response.body for key in (admin, made)), "the audit shows a key")


@check(
    "18",
    "the log holds ids of keys that were created, rotated and revoked, and nobody else can report such",
    extension=True,
)
async def logged(cp: Deployment) -> None:
    key = await create_key(cp)
    await rotate(cp, key, 0)
    await cp.admin.delete(f"{PATH}/{key['id']}")
    for kind in TYPES:
        events = [one for one in await cp.history(type=kind, limit=100) if one["payload"].get("id") == key["id"]]
        expect.equal(len(events), 1, f"the number of {kind} events")
        expect.equal(events[0]["payload"].get("family"), key["family"], "`family` in the payload")
        expect.has_no(SECRETS, events[0]["payload"], "the payload")
        body = await cp.report(event(kind))
        expect.equal(body.get("dropped"), 1, f"`dropped` after {kind} was reported")
