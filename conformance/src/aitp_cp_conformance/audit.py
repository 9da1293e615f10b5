"""Contract, section 13: the admin audit."""

import asyncio
from typing import Any

from aitp_cp_conformance import expect
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import PAUSE_SECS, Deployment
from aitp_cp_conformance.trust_store import ANCHORS, KEYS, add_anchor, pin

PATH = "/api/audit"
MEMBERS = ("id", "action", "actorId", "targetId", "details", "requestId", "createdAt")


async def actions_on(cp: Deployment, target: str) -> list[str]:
    """Return the actions on this target, oldest first."""
    rows: list[dict[str, Any]] = expect.rows(await cp.admin.get(PATH, limit=100), "entries")
    return [row["action"] for row in reversed(rows) if target in (row["targetId"] or "")]


@check("13", "an entry of the audit has all its members, newest first")
async def entries(cp: Deployment) -> None:
    await add_anchor(cp)
    await asyncio.sleep(PAUSE_SECS)  # entries of the same millisecond have no order
    await add_anchor(cp)
    body = (await cp.admin.get(PATH, limit=100)).ok()
    expect.equal(body.get("count"), len(body["entries"]), "`count`")
    for row in body["entries"]:
        expect.members(row, MEMBERS, "an audit row")
    times = [expect.moment(row["createdAt"], "createdAt") for row in body["entries"]]
    expect.equal(times, sorted(times, reverse=True), "the order of the audit")


@check("13", "the audit returns pages of at most 100 by default")
async def pages(cp: Deployment) -> None:
    for _ in range(3):
        await add_anchor(cp)
    expect.that(len(expect.rows(await cp.admin.get(PATH), "entries")) <= 100, "the default page is over 100")
    first = expect.rows(await cp.admin.get(PATH, limit=2), "entries")
    second = expect.rows(await cp.admin.get(PATH, limit=2, offset=1), "entries")
    expect.equal(second[0]["id"], first[1]["id"], "the first row at offset 1")


@check("13", "changes of trust anchors are audited")
async def anchors(cp: Deployment) -> None:
    id = (await add_anchor(cp))["id"]
    await cp.admin.patch(f"{ANCHORS}/{id}", {"label": "changed"})
    await cp.admin.delete(f"{ANCHORS}/{id}")
    expected = ["trust-anchor.create", "trust-anchor.update", "trust-anchor.delete"]
    expect.equal(await actions_on(cp, id), expected, "the actions on a trust anchor")


@check("13", "changes of pinned keys are audited")
async def pinned_keys(cp: Deployment) -> None:
    aid = (await pin(cp))["aid"]
    await cp.admin.delete(KEYS, namespace=cp.namespace, aid=aid)
    expected = ["pinned-key.upsert", "pinned-key.delete"]
    expect.equal(await actions_on(cp, aid), expected, "the actions on a pinned key")


@check("13", "a refused change writes no row")
async def refusals(cp: Deployment) -> None:
    issuer = f"ftp://issuer.example/{cp.name('refused')}"
    before = expect.rows(await cp.admin.get(PATH, limit=1), "entries")[0]["id"]
    expect.status(await cp.admin.post(ANCHORS, {"issuerUrl": issuer, "namespace": cp.namespace}), 400)
    rows = expect.rows(await cp.admin.get(PATH, limit=10), "entries")
    newer = rows[: [row["id"] for row in rows].index(before)]
    expect.that(issuer not in str(newer), "a refused change is in the audit")


@check("22", "the audit is filtered by actor, action, target, request and time", extension=True)
async def filters(cp: Deployment) -> None:
    anchor = (await add_anchor(cp))["id"]
    [row] = expect.rows(await cp.admin.get(PATH, target=anchor), "entries")
    for name, value in (("actor", row["actorId"]), ("action", row["action"]), ("requestId", row["requestId"])):
        found = expect.rows(await cp.admin.get(PATH, target=anchor, **{name: value}), "entries")
        expect.equal([one["id"] for one in found], [row["id"]], f"the entries with this {name}")
        expect.equal(expect.rows(await cp.admin.get(PATH, **{name: "none"}), "entries"), [], f"{name} that nobody has")
    later = expect.rows(await cp.admin.get(PATH, target=anchor, since="2999-01-01T00:00:00Z"), "entries")
    expect.equal(later, [], "entries of the future")
    expect.error(await cp.admin.get(PATH, since="soon"), 400, "FILTER_INVALID")


@check("22", "the audit is exported as JSON, JSON lines and CSV, and each export is in the audit", extension=True)
async def exports(cp: Deployment) -> None:
    anchor = (await add_anchor(cp))["id"]
    name = cp.name("export")
    body = (await cp.admin.get(f"{PATH}/export", {"X-Request-Id": name}, target=anchor)).ok()
    expect.equal((body["count"], body["truncated"]), (1, False), "`count` and `truncated`")
    lines = expect.json_lines(await cp.admin.get(f"{PATH}/export", target=anchor, format="jsonl"))
    expect.equal([line["kind"] for line in lines], ["export", "entry"], "the kinds of lines")
    table = await cp.admin.get(f"{PATH}/export", target=anchor, format="csv")
    expect.status(table, 200)
    expect.equal(table.body.count(anchor.encode()), 1, "the rows of the table")
    [row] = expect.rows(await cp.admin.get(PATH, requestId=name), "entries")
    expect.equal(row["action"], "audit.export", "what the export is in the audit")


@check("13", "reading writes no row")
async def reading(cp: Deployment) -> None:
    name = cp.name("reading")
    for path in ("/api/webhooks", ANCHORS, KEYS, PATH):
        await cp.admin.get(path, {"X-Request-Id": name})
    rows = expect.rows(await cp.admin.get(PATH, limit=20), "entries")
    expect.that(name not in [row["requestId"] for row in rows], "a read is in the audit")
