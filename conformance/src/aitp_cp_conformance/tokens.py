"""Contract, section 9: the projection of reports to TCTs and delegations."""

import hashlib
import time
from typing import Any
from uuid import UUID

from aitp_cp_conformance import expect
from aitp_cp_conformance.agents import new_agent, signed_token
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment, event
from aitp_cp_conformance.reported import (
    HOUR,
    claims,
    compact_token,
    delegated,
    find_delegation,
    find_tct,
    issued,
    new_jti,
)


async def tct_of(cp: Deployment, payload: Any, jti: str, issuer: str, kind: str = "tct.issued") -> dict[str, Any]:
    """Report this payload; return the stored token."""
    await cp.report(event(kind, payload=payload, session_id=cp.run, id=cp.name("event")))
    return await find_tct(cp, jti, issuer=issuer)


async def delegation_of(cp: Deployment, payload: dict[str, Any], jti: str, delegator: str) -> dict[str, Any]:
    """Report this payload; return the stored delegation."""
    await cp.report(event("delegation.issued", payload=payload, id=cp.name("event")))
    return await find_delegation(cp, jti, delegator=delegator)


@check("9", "`tct.issued` and `tct.renewal.issued` store the token with its claims")
async def issued_tokens(cp: Deployment) -> None:
    for kind in ("tct.issued", "tct.renewal.issued"):
        tct = claims(cp.name("issuer"), cp.name("holder"), new_jti(), aud="audience", grants=["read"])
        row = await tct_of(cp, {"tct": {"claims": tct}}, tct["jti"], tct["iss"], kind)
        shown = (row["issuer"], row["subject"], row["audience"], row["grants"], row["revoked"])
        expect.equal(shown, (tct["iss"], tct["sub"], "audience", ["read"], False), f"the token of {kind}")
        expires = expect.moment(row["expiresAt"], "expiresAt")
        lived = expires - expect.moment(row["issuedAt"], "issuedAt")
        expect.equal((int(expires.timestamp()), lived.seconds), (tct["exp"], HOUR), "expiresAt, and the lifetime")
        expect.equal(row["sessionId"], cp.run, "sessionId")
        expect.equal(row["conflict"], False, "conflict after the report of one caller")


@check("9", "a token is flat or {token, claims}, in `payload.tct` or `payload.tcts[]`")
async def token_shapes(cp: Deployment) -> None:
    for wrap in (
        lambda tct: {"tct": tct},
        lambda tct: {"tct": {"token": "opaque", "claims": tct}},
        lambda tct: {"tcts": [tct]},
        lambda tct: {"tcts": [{"token": "opaque", "claims": tct}]},
    ):
        tct = claims(cp.name("issuer"), "holder", new_jti())
        await tct_of(cp, wrap(tct), tct["jti"], tct["iss"])


@check("9", "issuer, subject and audience have several names")
async def token_names(cp: Deployment) -> None:
    for issuer, subject, audience in (
        ("issuer", "subject", "audience"),
        ("issuer_aid", "subject_aid", "audience_aid"),
        ("issuerAid", "subjectAid", "audienceAid"),
    ):
        jti, name = new_jti(), cp.name("issuer")
        row = await tct_of(cp, {"tct": {"jti": jti, issuer: name, subject: "s", audience: "a"}}, jti, name)
        expect.equal((row["subject"], row["audience"]), ("s", "a"), f"the sides under {issuer} and {subject}")


@check("9", "without an audience it is the subject")
async def token_audience(cp: Deployment) -> None:
    tct = claims(cp.name("issuer"), "holder", new_jti())
    row = await tct_of(cp, {"tct": tct}, tct["jti"], tct["iss"])
    expect.equal(row["audience"], "holder", "the audience")


@check("9", "times are `iat|issued_at` and `exp|expires_at`")
async def token_times(cp: Deployment) -> None:
    jti, issuer = new_jti(), cp.name("issuer")
    members = {"issued_at": "2026-01-02T03:04:05Z", "expires_at": "2026-01-02T04:04:05Z"}
    row = await tct_of(cp, {"tct": {"jti": jti, "iss": issuer, "sub": "s", **members}}, jti, issuer)
    expected = ("2026-01-02T03:04:05.000Z", "2026-01-02T04:04:05.000Z")
    expect.equal((row["issuedAt"], row["expiresAt"]), expected, "issuedAt and expiresAt")


@check("9", "the binding is `cnf.jkt`, `cnf` or `binding.cnf`")
async def token_binding(cp: Deployment) -> None:
    for binding in ({"cnf": {"jkt": "thumb"}}, {"cnf": "thumb"}, {"binding": {"cnf": "thumb"}}):
        tct = claims(cp.name("issuer"), "holder", new_jti(), **binding)
        row = await tct_of(cp, {"tct": tct}, tct["jti"], tct["iss"])
        expect.equal(row["bindingCnf"], "thumb", f"bindingCnf of a token with {binding}")


@check("9", "a token without jti, issuer or subject is not stored, but its event is")
async def token_essentials(cp: Deployment) -> None:
    issuer = cp.name("issuer")
    whole = claims(issuer, "holder", new_jti())
    for fault in ({"jti": None}, {"jti": "not-a-uuid"}, {"sub": None}):
        await cp.stored(event("tct.issued", payload={"tct": whole | fault}))
    expect.equal(expect.rows(await cp.admin.get("/api/tcts", issuer=issuer), "tcts"), [], "the tokens stored")


@check("9", "a jti in any spelling of its UUID is one token")
async def token_spelling(cp: Deployment) -> None:
    tct = claims(cp.name("issuer"), "holder", new_jti())
    await cp.report(issued(tct), issued(tct | {"jti": tct["jti"].upper()}, id=cp.name("event")))
    rows = expect.rows(await cp.admin.get("/api/tcts", issuer=tct["iss"]), "tcts")
    expect.equal([row["jti"] for row in rows], [tct["jti"]], "the tokens stored")


@check("9", "AIDs of tokens are stored in their untagged spelling")
async def token_aids(cp: Deployment) -> None:
    aid = new_agent().aid
    tct = claims(aid.replace("aid:pubkey:", "aid:pubkey:ed25519:"), "holder", new_jti())
    expect.equal((await tct_of(cp, {"tct": tct}, tct["jti"], aid))["issuer"], aid, "the issuer")


@check("9", "`tct.revoked` revokes the token, its delegations and all their descendants")
async def revoked_token(cp: Deployment) -> None:
    issuer, names = cp.name("issuer"), [cp.name("delegator") for _ in range(2)]
    root, child, grandchild = new_jti(), new_jti(), new_jti()
    await cp.report(
        issued(claims(issuer, names[0], root)),
        delegated(child, root, names[0], names[1]),
        delegated(grandchild, child, names[1], "last"),
    )
    await cp.report(event("tct.revoked", payload={"jti": root}))
    token = await find_tct(cp, root, issuer=issuer)
    expect.that(token["revoked"] is True, "the token is not revoked")
    expect.moment(token["revokedAt"], "revokedAt")
    for jti, delegator in ((child, names[0]), (grandchild, names[1])):
        row = await find_delegation(cp, jti, delegator=delegator)
        expect.that(row["revoked"] is True, "a delegation below the revoked token is not revoked")


@check("9", "a reported `tct.revoked` does not enter the deny list")
async def only_marked(cp: Deployment) -> None:
    tct = claims(cp.name("issuer"), "holder", new_jti())
    await cp.report(issued(tct), event("tct.revoked", payload={"jti": tct["jti"]}))
    expect.that((await find_tct(cp, tct["jti"], issuer=tct["iss"]))["revoked"], "the token is not marked")
    envelope = (await cp.public.get("/.well-known/aitp-revocation-list")).ok()
    listed = {entry["jti"] for entry in envelope["revocation_list"]["entries"]}
    expect.that(tct["jti"] not in listed, "a reported revocation is in the signed list")


@check("9", "`delegation.issued` stores the delegation")
async def issued_delegation(cp: Deployment) -> None:
    jti, parent, delegator = new_jti(), new_jti(), cp.name("delegator")
    payload = {"jti": jti, "parent_jti": parent, "delegator": delegator, "delegatee": "taker", "scope": ["read"]}
    row = await delegation_of(cp, payload | {"exp": int(time.time()) + HOUR}, jti, delegator)
    shown = (row["parentJti"], row["delegatee"], row["scope"], row["revoked"], row["revokedReason"])
    expect.equal(shown, (parent, "taker", ["read"], False, None), "the delegation")
    expect.moment(row["expiresAt"], "expiresAt")


@check("9", "its claims are those of `payload.tct`, `payload.delegation` or the payload")
async def delegation_shapes(cp: Deployment) -> None:
    for wrap in (
        lambda members: members,
        lambda members: {"tct": members},
        lambda members: {"delegation": {"claims": members}},
    ):
        jti, delegator = new_jti(), cp.name("delegator")
        members = {"jti": jti, "parent_jti": new_jti(), "iss": delegator, "sub": "taker", "grants": ["read"]}
        row = await delegation_of(cp, wrap(members), jti, delegator)
        expect.equal((row["delegatee"], row["scope"]), ("taker", ["read"]), "delegatee and scope")


@check("9", "delegator and delegatee have several names")
async def delegation_names(cp: Deployment) -> None:
    for giver, taker in (("delegator_aid", "delegatee_aid"), ("delegator", "delegatee"), ("iss", "sub")):
        jti, name = new_jti(), cp.name("delegator")
        row = await delegation_of(cp, {"jti": jti, "parent_jti": new_jti(), giver: name, taker: "taker"}, jti, name)
        expect.equal(row["delegatee"], "taker", f"the delegatee under {taker}")


@check("9", "the parent is `parent_jti|parentJti|src_jti`, else `src_jti` in the decoded voucher")
async def delegation_parents(cp: Deployment) -> None:
    for wrap in (
        lambda parent: {"parent_jti": parent},
        lambda parent: {"parentJti": parent},
        lambda parent: {"src_jti": parent},
        lambda parent: {"tct": {"claims": {"voucher": compact_token({"src_jti": parent})}}},
    ):
        jti, parent, name = new_jti(), new_jti(), cp.name("delegator")
        about = {"jti": jti, "delegator": name, "delegatee": "taker"}
        row = await delegation_of(cp, about | wrap(parent), jti, name)
        expect.equal(row["parentJti"], parent, f"the parent named by {set(wrap(parent))}")


@check("9", "multi-hop, the parent is the `jti` of the last entry of `claims.chain`", extension=True)
async def delegation_chain(cp: Deployment) -> None:
    jti, parent, name = new_jti(), new_jti(), cp.name("delegator")
    chain = [compact_token({"jti": new_jti()}), compact_token({"jti": parent})]
    members = {"jti": jti, "iss": name, "sub": "taker", "chain": chain}
    row = await delegation_of(cp, {"tct": {"claims": members}}, jti, name)
    expect.equal(row["parentJti"], parent, "the parent")


@check("9", "a single-hop token without a jti gets a UUIDv5 of its text")
async def delegation_own_jti(cp: Deployment) -> None:
    parent, name = new_jti(), cp.name("delegator")
    token = compact_token({"iss": name, "sub": "taker", "voucher": compact_token({"src_jti": parent})})
    digest = hashlib.sha1(f"aitp-delegation:{token}".encode(), usedforsecurity=False).digest()
    jti = str(UUID(bytes=digest[:16], version=5))
    members = {"iss": name, "sub": "taker", "parent_jti": parent}
    row = await delegation_of(cp, {"delegation": {"token": token, "claims": members}}, jti, name)
    expect.equal(row["parentJti"], parent, "the parent")


@check("9", "`delegation.revoked` revokes the delegation as `explicit` and its descendants as `parent_revoked`")
async def revoked_delegation(cp: Deployment) -> None:
    names = [cp.name("delegator") for _ in range(3)]
    jtis = [new_jti() for _ in range(3)]
    parents = [new_jti(), *jtis[:2]]
    await cp.report(*(delegated(*about, "taker") for about in zip(jtis, parents, names, strict=True)))
    await cp.report(event("delegation.revoked", payload={"jti": jtis[1]}))
    rows = [await find_delegation(cp, jti, delegator=name) for jti, name in zip(jtis, names, strict=True)]
    shown = [(row["revoked"], row["revokedReason"]) for row in rows]
    expect.equal(shown, [(False, None), (True, "explicit"), (True, "parent_revoked")], "a family of three")


@check("9", "a token reported after its revocation is stored as revoked", extension=True)
async def revoked_before_issued(cp: Deployment) -> None:
    tct = claims(cp.name("issuer"), "holder", new_jti())
    await cp.report(event("tct.revoked", payload={"jti": tct["jti"]}))
    await cp.report(issued(tct))
    expect.that((await find_tct(cp, tct["jti"], issuer=tct["iss"]))["revoked"], "the token is not revoked")


@check("9", "a delegation reported after its parent's revocation is stored as revoked", extension=True)
async def revoked_parent_first(cp: Deployment) -> None:
    parent, child, grandchild = new_jti(), new_jti(), new_jti()
    names = [cp.name("delegator") for _ in range(2)]
    await cp.report(event("tct.revoked", payload={"jti": parent}))
    await cp.report(delegated(grandchild, child, names[1], "last"))
    await cp.report(delegated(child, parent, names[0], names[1]))
    for jti, name in ((child, names[0]), (grandchild, names[1])):
        expect.that((await find_delegation(cp, jti, delegator=name))["revoked"], "a delegation is not revoked")


@check("19", "a signed token is `verified`, and corrects what its reporter claims beside it", extension=True)
async def verified(cp: Deployment) -> None:
    issuer, holder, jti = new_agent(), new_agent(), new_jti()
    token = signed_token(issuer, holder, claims(issuer.aid, holder.aid, jti, grants=["read"]))
    row = await tct_of(cp, {"tct": {"token": token, "claims": {"grants": ["admin"]}}}, jti, issuer.aid)
    shown = (row["subject"], row["grants"], row["verdict"], row["mismatch"])
    expect.equal(shown, (holder.aid, ["read"], "verified", True), "subject, grants, verdict and mismatch")
    await find_tct(cp, jti, issuer=issuer.aid, verdict="verified")


@check("19", "a forged token makes no row, and emits `token.forged` once", extension=True)
async def forged(cp: Deployment) -> None:
    issuer, holder, jti = new_agent(), new_agent(), new_jti()
    claim_set = claims(issuer.aid, holder.aid, jti, grants=["read"])
    token = signed_token(holder, holder, claim_set)
    for _ in range(2):
        await cp.report(event("tct.issued", payload={"tct": {"token": token, "claims": claim_set}}))
    rows = expect.rows(await cp.admin.get("/api/tcts", issuer=issuer.aid), "tcts")
    expect.equal(rows, [], "the tokens of its alleged issuer")
    [alarm] = await cp.history(type="token.forged", aid=issuer.aid)
    digest = hashlib.sha256(token.encode()).hexdigest()
    shown = {name: alarm["payload"].get(name) for name in ("sha256", "jti", "issuer", "subject")}
    expected = {"sha256": digest, "jti": jti, "issuer": issuer.aid, "subject": holder.aid}
    expect.equal(shown, expected, "the payload of token.forged")
    expect.that(token not in str(alarm), "the event shows the token")
