"""Contract, section 2: filters in both spellings, `limit` and `offset` clamped."""

from typing import Any

from aitp_cp_conformance import expect
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment, event
from aitp_cp_conformance.registered import main_agent
from aitp_cp_conformance.reported import family, session

GARBAGE = ("0", "-1", "abc", "1e3", "1.5", "99999999999999999999")
LISTS = (
    ("/api/events/history", "events"),
    ("/api/sessions", "sessions"),
    ("/api/tcts", "tcts"),
    ("/api/delegations", "delegations"),
    ("/api/audit", "entries"),
)
MANY = 130


async def many_events(cp: Deployment) -> str:
    """Report more events than a default page holds; return their run."""
    run = cp.name("many")
    body = await cp.report(*(event("conformance.many", run_id=run, payload={"n": n}) for n in range(MANY)))
    expect.equal(body.get("inserted"), MANY, f"`inserted` after {MANY} new events")
    return run


async def same(cp: Deployment, path: str, name: str, **spellings: str) -> list[Any]:
    """Check that every spelling of one filter returns the same rows, and at least one."""
    row_lists = [
        expect.rows(await cp.admin.get(path, **{spelled: value}), name) for spelled, value in spellings.items()
    ]
    for spelled, rows in zip(spellings, row_lists, strict=True):
        expect.that(rows, f"{path}?{spelled}= returns nothing")
        expect.equal(rows, row_lists[0], f"what {path}?{spelled}= returns")
    return row_lists[0]


@check("2", "`limit` is clamped, never an error")
async def limit_clamped(cp: Deployment) -> None:
    for path, name in LISTS:
        for garbage in GARBAGE:
            expect.that(len(expect.rows(await cp.admin.get(path, limit=garbage), name)) <= 1000, f"{path} over 1000")


@check("2", "an invalid `offset` is 0, never an error")
async def offset_clamped(cp: Deployment) -> None:
    for path, name in LISTS:
        for garbage in ("-5", "abc", "1e9"):
            expect.rows(await cp.admin.get(path, offset=garbage, limit=1), name)


@check("2", "an `offset` over 100,000 is 400 `OFFSET_TOO_LARGE`", extension=True)
async def offset_bounded(cp: Deployment) -> None:
    expect.error(await cp.public.get("/api/registry/agents", offset="100001"), 400, "OFFSET_TOO_LARGE")
    for path, name in LISTS:
        expect.rows(await cp.admin.get(path, offset="100000", limit=1), name)
        for far in ("100001", "99999999999999999999"):
            expect.error(await cp.admin.get(path, offset=far, limit=1), 400, "OFFSET_TOO_LARGE")


@check("2", "`before` pages through a whole list in its order", extension=True)
async def cursors(cp: Deployment) -> None:
    run = await cp.shared(many_events)
    expected = [row["id"] for row in await cp.history(runId=run, limit=MANY)]
    seen: list[str] = []
    more: dict[str, str] = {}
    while len(seen) < MANY:
        page = (await cp.admin.get("/api/events/history", runId=run, limit=50, **more)).ok()
        seen += [row["id"] for row in page["events"]]
        more = {"before": page["nextBefore"]} if "nextBefore" in page else {}
        expect.equal(not more, len(seen) == MANY, f"the end of the list after {len(seen)} of {MANY} rows")
    expect.equal(seen, expected, "the rows over three pages")


@check("2", "a malformed cursor, a cursor of another list, and a cursor beside `offset` are 400", extension=True)
async def strange_cursors(cp: Deployment) -> None:
    run = await cp.shared(many_events)
    cursor = (await cp.admin.get("/api/events/history", runId=run, limit=1)).ok().get("nextBefore")
    expect.that(isinstance(cursor, str), "the history of a run with many events has no nextBefore")
    expect.error(await cp.admin.get("/api/events/history", before=cursor, offset=1), 400, "FILTER_INVALID")
    for path, _ in LISTS:
        expect.error(await cp.admin.get(path, before="nonsense"), 400, "FILTER_INVALID")
        if path != "/api/events/history":
            expect.error(await cp.admin.get(path, before=cursor), 400, "FILTER_INVALID")


@check("2", "discovery clamps `limit` and `offset` too")
async def discovery_clamped(cp: Deployment) -> None:
    for garbage in ("0", "-1", "abc"):
        expect.rows(await cp.public.get("/api/registry/agents", limit=garbage, offset=garbage), "agents")


@check("2", "an invalid `limit` is the default")
async def limit_default(cp: Deployment) -> None:
    run = await cp.shared(many_events)
    expect.equal(len(await cp.history(runId=run)), 100, "the default page of the history")
    for garbage in ("abc", "", "1.5"):
        expect.equal(len(await cp.history(runId=run, limit=garbage)), 100, f"a page with limit={garbage!r}")
    expect.equal(len(await cp.history(runId=run, limit=5000)), MANY, "a page with limit=5000")


@check("2", "`limit` and `offset` page through a list without gaps or repeats")
async def pages(cp: Deployment) -> None:
    run = await cp.shared(many_events)
    seen = [row["id"] for offset in range(0, MANY, 50) for row in await cp.history(runId=run, limit=50, offset=offset)]
    expect.equal((len(seen), len(set(seen))), (MANY, MANY), "rows and different rows over three pages")


@check("2", "the history takes `runId`/`run_id` and `sessionId`/`session_id`")
async def history_spellings(cp: Deployment) -> None:
    handshake = await cp.shared(session)
    await same(cp, "/api/events/history", "events", runId=handshake.run, run_id=handshake.run)
    await same(cp, "/api/events/history", "events", sessionId=handshake.id, session_id=handshake.id)


@check("2", "sessions take `runId`/`run_id`, tokens `sessionId`/`session_id`")
async def projection_spellings(cp: Deployment) -> None:
    handshake = await cp.shared(session)
    await same(cp, "/api/sessions", "sessions", runId=handshake.run, run_id=handshake.run)
    await same(cp, "/api/tcts", "tcts", sessionId=handshake.id, session_id=handshake.id)


@check("2", "delegations take `rootJti`/`root_jti` and `parentJti`/`parent_jti`")
async def delegation_spellings(cp: Deployment) -> None:
    tree = await cp.shared(family)
    await same(cp, "/api/delegations", "delegations", rootJti=tree.child, root_jti=tree.child)
    await same(cp, "/api/delegations", "delegations", parentJti=tree.child, parent_jti=tree.child)


@check("2", "discovery takes `displayName`/`display_name`")
async def discovery_spellings(cp: Deployment) -> None:
    name = (await cp.shared(main_agent)).name
    for spelled in ("displayName", "display_name"):
        agents = expect.rows(await cp.public.get("/api/registry/agents", **{spelled: name}), "agents")
        expect.equal([entry.get("displayName") for entry in agents], [name], f"names by {spelled}")
