"""Contract, section 11: revocation. Entries are permanent, so the checks share a few."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid1

from aitp_cp_client.wire.verification import Unverified, verify_revocation_list
from aitp_cp_conformance import expect
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment
from aitp_cp_conformance.identity import own_manifest
from aitp_cp_conformance.model import Broken
from aitp_cp_conformance.reported import claims, delegated, find_delegation, find_tct, issued, new_jti
from aitp_cp_conformance.wire import Response

PATH = "/api/revocation/entries"
LIST = "/.well-known/aitp-revocation-list"
SOON_SECS = 1.0
SIGNED_EVERY_SECS = 60
CLOCK_SKEW_SECS = 30


@dataclass(frozen=True, slots=True)
class Revoked:
    """A token that was reported, delegated twice, and revoked."""

    jti: str
    issuer: str
    delegators: tuple[str, str]
    children: tuple[str, str]
    response: Response
    listed_after_secs: float | None  # None if the entry was not listed in time


async def revoke(cp: Deployment, **body: Any) -> Response:
    """Add an entry; skip the check with --no-revoke."""
    if not cp.options.revoke:
        cp.skip("adds a permanent entry to the deny list, which --no-revoke forbids")
    return await cp.admin.post(PATH, body)


async def signed_list(cp: Deployment) -> dict[str, Any]:
    body = (await cp.public.get(LIST)).ok()
    expect.members(body, ("revocation_list", "signature"), "the envelope")
    inner: dict[str, Any] = body["revocation_list"]
    return inner


async def listed(cp: Deployment) -> set[str]:
    return {entry["jti"] for entry in (await signed_list(cp))["entries"]}


async def revoked(cp: Deployment) -> Revoked:
    """Revoke the token that most checks use."""
    issuer, names, jtis = cp.name("issuer"), (cp.name("one"), cp.name("two")), [new_jti() for _ in range(3)]
    await cp.report(
        issued(claims(issuer, names[0], jtis[0])),
        delegated(jtis[1], jtis[0], names[0], names[1]),
        delegated(jtis[2], jtis[1], names[1], "last"),
    )
    response = await revoke(cp, jti=jtis[0], reason=f"{cp.run}: key lost")
    expect.status(response, 201)
    accepted = time.monotonic()

    async def in_list() -> float | None:
        requested_at = time.monotonic()  # before the request: its duration is not part of the delay
        return requested_at - accepted if jtis[0] in await listed(cp) else None

    try:
        after = await cp.eventually(in_list, "the entry in the list", 5 * SOON_SECS)
    except Broken:
        after = None
    return Revoked(jtis[0], issuer, names, (jtis[1], jtis[2]), response, after)


@check("11", "an entry is answered 201 {jti, revokedAt, reason}")
async def entry(cp: Deployment) -> None:
    revocation = await cp.shared(revoked)
    body = revocation.response.ok(201)
    expect.equal((body["jti"], body["reason"]), (revocation.jti, f"{cp.run}: key lost"), "jti and reason")
    expect.moment(body["revokedAt"], "revokedAt")
    expect.equal(body["listed"], True, "listed")


@check("11", "a jti already revoked is 201 with the stored row, without a second event", extension=True)
async def entry_again(cp: Deployment) -> None:
    revocation = await cp.shared(revoked)
    again = await revoke(cp, jti=revocation.jti.upper(), reason="another reason", revokedAt="2020-01-01T00:00:00Z")
    expect.equal(again.ok(201), revocation.response.json, "the response to a second revocation")
    expect.equal(len(await _events(cp, revocation.jti)), 1, "the number of tct.revoked events")


@check("11", "a jti is a UUID of any version in any spelling, stored lowercase; `revokedAt` is optional")
async def spellings(cp: Deployment) -> None:
    jti = new_jti()
    body = (await revoke(cp, jti=jti.upper(), revokedAt="2026-01-02T03:04:05Z")).ok(201)
    expect.equal((body["jti"], body["revokedAt"]), (jti, "2026-01-02T03:04:05.000Z"), "the stored row")
    expect.equal(body["reason"], None, "the reason of a request without one")
    for other in (f"urn:uuid:{jti}", jti.replace("-", ""), f"{{{jti}}}"):
        expect.equal((await revoke(cp, jti=other)).ok(201)["jti"], jti, f"the stored spelling of {other}")


@check("11", "a jti that is no UUID is 400 `JTI_INVALID`")
async def bad_jti(cp: Deployment) -> None:
    for jti in ("not-a-uuid", "", "123", new_jti() + "0", None, 7):
        expect.error(await cp.admin.post(PATH, {"jti": jti}), 400, "JTI_INVALID")
    expect.error(await cp.admin.post(PATH, {}), 400, "JTI_INVALID")


@check("11", "a reason over 500 characters is 400 `BODY_INVALID`")
async def long_reason(cp: Deployment) -> None:
    expect.error(await cp.admin.post(PATH, {"jti": new_jti(), "reason": "r" * 501}), 400, "BODY_INVALID")


@check("11", "a revokedAt outside 1970 to 9999, or no date at all, is 400 `BODY_INVALID`")
async def bad_date(cp: Deployment) -> None:
    dates: tuple[Any, ...] = ("yesterday", "1969-12-31T23:59:59Z", "10000-01-01T00:00:00Z", "", True, {})
    for date in dates:
        expect.error(await cp.admin.post(PATH, {"jti": new_jti(), "revokedAt": date}), 400, "BODY_INVALID")


@check("11", "a revokedAt more than five minutes ahead is 400 `BODY_INVALID`", extension=True)
async def future_date(cp: Deployment) -> None:
    for ahead in (timedelta(hours=1), timedelta(days=10_000)):
        body = {"jti": new_jti(), "revokedAt": (datetime.now(UTC) + ahead).isoformat()}
        expect.error(await cp.admin.post(PATH, body), 400, "BODY_INVALID")


@check("11", "`jtis` revokes up to 1000 tokens at once, answered in the order of the request", extension=True)
async def bulk(cp: Deployment) -> None:
    revocation, jtis = await cp.shared(revoked), [new_jti() for _ in range(3)]
    requested = [jtis[0].upper(), revocation.jti, *jtis[1:], jtis[0]]
    body = (await revoke(cp, jtis=requested, reason=cp.run)).ok(201)
    expect.equal([entry["jti"] for entry in body["entries"]], [jti.lower() for jti in requested], "the order")
    expect.equal((body["revoked"], body["alreadyRevoked"]), (3, 2), "the numbers of new and existing entries")
    expect.equal(body["entries"][1], revocation.response.json, "the entry that existed before")
    for jti in jtis:
        expect.equal(len(await _events(cp, jti)), 1, "the number of tct.revoked events of each token")


@check("11", "a list of `jtis` with an invalid entry is refused as a whole", extension=True)
async def bad_bulk(cp: Deployment) -> None:
    jti = new_jti()
    refused = await cp.admin.post(PATH, {"jtis": [new_jti(), "no-uuid"]})
    expect.error(refused, 400, "JTI_INVALID")
    expect.that("1" in refused.json["error"], "the error does not name the index of the invalid id")
    wrong: tuple[dict[str, Any], ...] = (
        {"jtis": []},
        {"jtis": [jti], "jti": jti},
        {"jtis": jti},
    )
    for body in wrong:
        expect.error(await cp.admin.post(PATH, body), 400, "BODY_INVALID")
    expect.error(await cp.admin.post(PATH, {"jtis": [new_jti() for _ in range(1001)]}), 400, "BODY_INVALID")
    expect.equal((await cp.admin.get(PATH, jti=jti)).ok()["count"], 0, "the number of entries stored of refused lists")


@check("11", "the token and everything delegated from it become revoked")
async def cascade(cp: Deployment) -> None:
    revocation = await cp.shared(revoked)
    expect.that((await find_tct(cp, revocation.jti, issuer=revocation.issuer))["revoked"], "the token is not revoked")
    for jti, delegator in zip(revocation.children, revocation.delegators, strict=True):
        row = await find_delegation(cp, jti, delegator=delegator)
        expect.equal((row["revoked"], row["revokedReason"]), (True, "parent_revoked"), "a delegation below it")


@check("11", "revocation appends the event `tct.revoked`")
async def revoked_event(cp: Deployment) -> None:
    revocation = await cp.shared(revoked)
    expect.equal(len(await _events(cp, revocation.jti)), 1, "the number of tct.revoked events")


@check("11", "revocation writes the admin audit row `revocation.add`")
async def revoked_audit(cp: Deployment) -> None:
    revocation = await cp.shared(revoked)
    actions = await cp.audit_actions(revocation.jti)
    expect.that("revocation.add" in actions, f"the audited actions on {revocation.jti} are {actions}")


@check("11", "`GET /api/revocation/entries` lists entries and filters by `jti`", extension=True)
async def entries(cp: Deployment) -> None:
    revocation = await cp.shared(revoked)
    for spelled in (revocation.jti, revocation.jti.upper()):
        body = (await cp.admin.get(PATH, jti=spelled)).ok()
        expect.equal(body, {"entries": [revocation.response.json], "count": 1}, f"the entries with jti={spelled}")
    page = (await cp.admin.get(PATH, limit=1)).ok()
    expect.equal((len(page["entries"]), page["count"]), (1, 1), "a page of one")


@check("11", "the signed list verifies by the SDK under the control plane's AID")
async def list_verifies(cp: Deployment) -> None:
    response = await cp.public.get(LIST)
    response.ok()
    try:
        verify_revocation_list(response.body, (await own_manifest(cp))["aid"])
    except Unverified as refused:
        raise Broken(f"{LIST}: {refused}") from refused


@check("11", "the list has its version, issuer, times and entries")
async def list_members(cp: Deployment) -> None:
    inner = await signed_list(cp)
    expect.members(inner, ("version", "issuer", "published_at", "expires_at", "entries"), "the list")
    expect.equal(inner["issuer"], (await own_manifest(cp))["aid"], "the issuer")
    for row in inner["entries"]:
        expect.members(row, ("jti", "revoked_at"), "an entry of the list")


@check("11", "the list is re-signed at least every 60 s, and expires later")
async def list_fresh(cp: Deployment) -> None:
    inner = await signed_list(cp)
    age = time.time() - inner["published_at"]
    expect.that(-CLOCK_SKEW_SECS <= age <= SIGNED_EVERY_SECS + CLOCK_SKEW_SECS, f"the list is {age:.0f} s old")
    expect.that(inner["expires_at"] > time.time() + SIGNED_EVERY_SECS, "the list expires within a minute")


@check("11", "a revocation is in the list with its time and reason")
async def in_the_list(cp: Deployment) -> None:
    revocation = await cp.shared(revoked)
    expect.that(revocation.listed_after_secs is not None, "the entry is not in the list")
    [row] = [entry for entry in (await signed_list(cp))["entries"] if entry["jti"] == revocation.jti]
    stored = revocation.response.json
    shown = datetime.fromtimestamp(row["revoked_at"], UTC).isoformat()[:19]
    expect.equal((shown, row.get("reason")), (stored["revokedAt"][:19], stored["reason"]), "the entry of the list")


@check("11", "a revocation is in the list of every replica within 1 s", extension=True)
async def listed_soon(cp: Deployment) -> None:
    after = (await cp.shared(revoked)).listed_after_secs
    expect.that(after is not None and after <= SOON_SECS, f"the entry was listed after {after} s")


@check("11", "the list is cached 60 s")
async def list_cached(cp: Deployment) -> None:
    shown = (await cp.public.get(LIST)).headers.get("cache-control", "")
    expect.that("max-age=60" in shown, f"Cache-Control is {shown!r}")


@check("11", "the list has a strong `ETag`, and `If-None-Match` is 304 without a body", extension=True)
async def conditional(cp: Deployment) -> None:
    for _ in range(3):  # the list may be signed again between two requests
        tag = (await cp.public.get(LIST)).headers.get("etag", "")
        expect.that(tag.startswith('"') and tag.endswith('"') and len(tag) > 2, f"ETag is {tag!r}, not a strong one")
        response = await cp.public.get(LIST, {"If-None-Match": f'"other", {tag}'})
        if response.status == 304:
            break
    expect.status(response, 304)
    expect.equal(response.body, b"", "the body of a 304")
    expect.header(response, "etag", tag)
    expect.status(await cp.public.get(LIST, {"If-None-Match": '"other"'}), 200)


@check("11", "a change of the list changes its `ETag`", extension=True)
async def etag_changes(cp: Deployment) -> None:
    before = (await cp.public.get(LIST)).headers.get("etag")
    expect.status(await revoke(cp, jti=new_jti(), reason=cp.run), 201)

    async def after() -> str | None:
        tag = (await cp.public.get(LIST)).headers.get("etag")
        return tag if tag != before else None

    await cp.eventually(after, "another ETag after a revocation")


@check("11", "an entry that is no v4 UUID takes effect but is not in the list, which is still signed")
async def unsignable(cp: Deployment) -> None:
    jti, issuer = str(UUID(int=uuid1().int)), cp.name("issuer")
    await cp.report(issued(claims(issuer, "holder", jti)))
    expect.equal((await revoke(cp, jti=jti, reason=cp.run)).ok(201)["listed"], False, "listed")
    expect.that((await find_tct(cp, jti, issuer=issuer))["revoked"], "the token is not revoked")
    expect.that(jti not in await listed(cp), "the list holds a jti that the SDK does not sign")


async def _events(cp: Deployment, jti: str) -> list[dict[str, Any]]:
    events = await cp.history(type="tct.revoked", limit=1000)
    return [event for event in events if jti in str(event["payload"])]
