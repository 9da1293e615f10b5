"""Contract, section 13: trust anchors and pinned keys."""

from typing import Any

from aitp_cp_conformance import expect
from aitp_cp_conformance.agents import new_agent
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment
from aitp_cp_conformance.responses import UNKNOWN_ID

ANCHORS, KEYS = "/api/trust-anchors", "/api/pinned-keys"
ANCHOR = (
    "id",
    "namespace",
    "issuerUrl",
    "jwksUrl",
    "label",
    "jwksCachedAt",
    "addedBy",
    "createdAt",
    "updatedAt",
)
KEY = ("namespace", "aid", "pubkey", "label", "expiresAt", "addedBy", "createdAt", "updatedAt")


async def add_anchor(cp: Deployment, **body: Any) -> dict[str, Any]:
    payload = {"issuerUrl": f"https://issuer.example/{cp.name('issuer')}", "namespace": cp.namespace, **body}
    record: dict[str, Any] = (await cp.admin.post(ANCHORS, payload)).ok(201)
    expect.members(record, ANCHOR, "a trust anchor")
    return record


async def anchor(cp: Deployment) -> dict[str, Any]:
    """Add the anchor that checks share."""
    return await add_anchor(cp, label="conformance", jwksUrl="https://issuer.example/keys")


def key_of(aid: str) -> str:
    return aid.rpartition(":")[2]


async def pin(cp: Deployment, *, p256: bool = False, **body: Any) -> dict[str, Any]:
    aid = new_agent(p256=p256).aid
    payload = {"aid": aid, "pubkey": key_of(aid), "namespace": cp.namespace, **body}
    record: dict[str, Any] = (await cp.admin.post(KEYS, payload)).ok(201)
    expect.members(record, KEY, "a pinned key")
    return record


@check("13", "creating a trust anchor is 201 with the record")
async def anchor_created(cp: Deployment) -> None:
    record = await cp.shared(anchor)
    shown = (record["namespace"], record["label"], record["jwksUrl"])
    expect.equal(shown, (cp.namespace, "conformance", "https://issuer.example/keys"), "the record")
    expect.uuid(record["id"], "its id")
    for name in ("createdAt", "updatedAt"):
        expect.moment(record[name], name)
    expect.that(isinstance(record["addedBy"], str) or cp.gate_open, f"addedBy is {record['addedBy']!r}")


@check("13", "`GET /api/trust-anchors?namespace` lists those of a namespace")
async def anchors_listed(cp: Deployment) -> None:
    existing = await cp.shared(anchor)
    rows = expect.rows(await cp.admin.get(ANCHORS, namespace=cp.namespace), "trustAnchors")
    expect.that(existing["id"] in [row["id"] for row in rows], "the list lacks an anchor")
    expect.equal({row["namespace"] for row in rows}, {cp.namespace}, "the namespaces listed")
    for row in rows:
        expect.members(row, ANCHOR, "a trust anchor")
    everywhere = expect.rows(await cp.admin.get(ANCHORS), "trustAnchors")
    expect.that(existing["id"] in [row["id"] for row in everywhere], "the list of all namespaces lacks an anchor")


@check("13", "`GET /api/trust-anchors/{id}` is the record")
async def anchor_fetched(cp: Deployment) -> None:
    created = await add_anchor(cp)
    record = (await cp.admin.get(f"{ANCHORS}/{created['id']}")).ok()
    lasting = [name for name in ANCHOR if name not in {"jwksCachedAt", "updatedAt"}]
    expect.equal({name: record[name] for name in lasting}, {name: created[name] for name in lasting}, "the record")


@check("13", "the same namespace and issuer again is 409 `ALREADY_EXISTS` naming the existing id")
async def anchor_twice(cp: Deployment) -> None:
    existing = await cp.shared(anchor)
    body = {"issuerUrl": existing["issuerUrl"], "namespace": cp.namespace}
    conflict = expect.error(await cp.admin.post(ANCHORS, body), 409, "ALREADY_EXISTS")
    expect.equal(conflict.get("existing"), {"id": existing["id"]}, "`existing`")
    await add_anchor(cp, issuerUrl=existing["issuerUrl"], namespace=f"{cp.namespace}-other")


@check("13", "`PATCH` changes only the members in its body")
async def anchor_patched(cp: Deployment) -> None:
    created = await add_anchor(cp, label="old")
    changed = (await cp.admin.patch(f"{ANCHORS}/{created['id']}", {"label": "new"})).ok()
    expect.equal((changed["label"], changed["issuerUrl"]), ("new", created["issuerUrl"]), "label and issuerUrl")


@check("13", "`PATCH` validates, and can answer the same 409")
async def anchor_patch_refused(cp: Deployment) -> None:
    taken, created = await cp.shared(anchor), await add_anchor(cp)
    path = f"{ANCHORS}/{created['id']}"
    conflict = expect.error(await cp.admin.patch(path, {"issuerUrl": taken["issuerUrl"]}), 409, "ALREADY_EXISTS")
    expect.equal(conflict.get("existing"), {"id": taken["id"]}, "`existing`")
    for body in ({"issuerUrl": "ftp://x.example"}, {"label": "l" * 129}, {"jwksUrl": "not a url"}):
        expect.error(await cp.admin.patch(path, body), 400, "BODY_INVALID")


@check("13", "`DELETE` is 204, and the anchor is gone")
async def anchor_deleted(cp: Deployment) -> None:
    path = f"{ANCHORS}/{(await add_anchor(cp))['id']}"
    response = await cp.admin.delete(path)
    expect.status(response, 204)
    expect.equal(response.body, b"", "the body of a 204")
    for response in (await cp.admin.get(path), await cp.admin.delete(path), await cp.admin.patch(path, {"label": "x"})):
        expect.error(response, 404, "NOT_FOUND")


@check("13", "URLs must be http(s)")
async def anchor_urls(cp: Deployment) -> None:
    good = f"https://issuer.example/{cp.name('urls')}"
    for urls in ({"issuerUrl": "ftp://issuer.example"}, {"issuerUrl": "issuer"}, {"issuerUrl": ""}, {}):
        expect.error(await cp.admin.post(ANCHORS, {"namespace": cp.namespace, **urls}), 400, "BODY_INVALID")
    body = {"issuerUrl": good, "jwksUrl": "file:///keys", "namespace": cp.namespace}
    expect.error(await cp.admin.post(ANCHORS, body), 400, "BODY_INVALID")


@check("13", "an anchor without a namespace is in `default`")
async def anchor_default(cp: Deployment) -> None:
    body = {"issuerUrl": f"https://issuer.example/{cp.name('default')}"}
    expect.equal((await cp.admin.post(ANCHORS, body)).ok(201)["namespace"], "default", "the namespace")


@check("13", "a key set that has not been fetched is 503 `JWKS_NOT_CACHED`", extension=True)
async def no_key_set(cp: Deployment) -> None:
    created = await add_anchor(cp)
    expect.error(await cp.admin.get(f"{ANCHORS}/{created['id']}/jwks"), 503, "JWKS_NOT_CACHED")
    expect.error(await cp.admin.get(f"{ANCHORS}/{UNKNOWN_ID}/jwks"), 404, "NOT_FOUND")


@check("13", "pinning a key is 201 with the record")
async def key_pinned(cp: Deployment) -> None:
    record = await pin(cp, label="conformance", expiresAt="2030-01-02T03:04:05Z")
    shown = (record["namespace"], record["pubkey"], record["label"], record["expiresAt"])
    expected = (cp.namespace, key_of(record["aid"]), "conformance", "2030-01-02T03:04:05.000Z")
    expect.equal(shown, expected, "the record")


@check("13", "a P-256 key of 44 characters is accepted", extension=True)
async def p256_pinned(cp: Deployment) -> None:
    expect.equal(len((await pin(cp, p256=True))["pubkey"]), 44, "the length of a P-256 key")


@check("13", "`POST` is an upsert")
async def key_upserted(cp: Deployment) -> None:
    pinned = await pin(cp, label="old")
    body = {"aid": pinned["aid"], "pubkey": pinned["pubkey"], "namespace": cp.namespace, "label": "new"}
    again = (await cp.admin.post(KEYS, body)).ok(201)
    expect.equal((again["label"], again["createdAt"]), ("new", pinned["createdAt"]), "label and createdAt")
    rows = expect.rows(await cp.admin.get(KEYS, namespace=cp.namespace), "pinnedKeys")
    expect.equal(sum(row["aid"] == pinned["aid"] for row in rows), 1, "the number of rows of its AID")


@check("13", "`?aid=&namespace=` is one record, or 404")
async def key_found(cp: Deployment) -> None:
    pinned = await pin(cp)
    for spelled in (pinned["aid"], pinned["aid"].replace("aid:pubkey:", "aid:pubkey:ed25519:")):
        record = (await cp.admin.get(KEYS, aid=spelled, namespace=cp.namespace)).ok()
        expect.equal((record["aid"], record["pubkey"]), (pinned["aid"], pinned["pubkey"]), "the record")
    response = await cp.admin.get(KEYS, aid=new_agent().aid, namespace=cp.namespace)
    expect.error(response, 404, "NOT_FOUND")


@check("13", "a pubkey of another length or alphabet is 400")
async def bad_key(cp: Deployment) -> None:
    aid = new_agent().aid
    for pubkey in ("", key_of(aid)[:-1], key_of(aid) + "A", "!" * 43, key_of(aid)[:-1] + "="):
        expect.error(await cp.admin.post(KEYS, {"aid": aid, "pubkey": pubkey}), 400, "BODY_INVALID")


@check("13", "the pubkey must be the AID's own", extension=True)
async def foreign_key(cp: Deployment) -> None:
    body = {"aid": new_agent().aid, "pubkey": key_of(new_agent().aid), "namespace": cp.namespace}
    expect.error(await cp.admin.post(KEYS, body), 400, "BODY_INVALID")


@check("13", "`DELETE ?namespace&aid` is 204, and the key is gone")
async def key_deleted(cp: Deployment) -> None:
    pinned = await pin(cp)
    expect.status(await cp.admin.delete(KEYS, namespace=cp.namespace, aid=pinned["aid"]), 204)
    response = await cp.admin.get(KEYS, namespace=cp.namespace, aid=pinned["aid"])
    expect.error(response, 404, "NOT_FOUND")


@check("13", "deleting without an aid is 400 `BAD_REQUEST` and deletes nothing")
async def never_all(cp: Deployment) -> None:
    pinned = await pin(cp)
    for query in ({}, {"namespace": cp.namespace}, {"namespace": cp.namespace, "aid": ""}):
        expect.error(await cp.admin.delete(KEYS, **query), 400, "BAD_REQUEST")
    (await cp.admin.get(KEYS, namespace=cp.namespace, aid=pinned["aid"])).ok()
