"""Contract, section 8: enrolment. Slow under the default limit of five a minute."""

import time
from typing import Any

import msgspec

from aitp_cp_conformance import expect
from aitp_cp_conformance.agents import DAY, crafted, fingerprint, new_agent, tampered, unb64url
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment
from aitp_cp_conformance.model import Broken
from aitp_cp_conformance.registered import ENROLL, main_agent, other_agent

LAST_SECOND = 253_402_300_799  # of the year 9999
CLOCK_SKEW_SECS = 30


async def refused(cp: Deployment, manifest: bytes, code: str = "MANIFEST_INVALID") -> dict[str, Any]:
    """Enrol with a manifest that must be refused; return the error body."""
    return expect.error(await cp.public.post(ENROLL, manifest), 400, code)


def token_claims(token: str) -> dict[str, Any]:
    """Decode the JSON part of an enrollment token."""
    try:
        claims: dict[str, Any] = msgspec.json.decode(unb64url(token.split(".")[0]))
    except ValueError:
        raise Broken("the first part of the token is not base64url of JSON") from None
    return claims


@check("8", 'enrolment answers {"token","expiresIn":300,"aid","jti","exp"}')
async def enrolment_answer(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    body = agent.enrolled
    expect.members(body, ("token", "expiresIn", "aid", "jti", "exp"), "the response to an enrolment")
    expect.equal((body["expiresIn"], body["aid"]), (300, agent.aid), "expiresIn and aid")
    expect.that(body["jti"], "jti is empty")
    expect.that(isinstance(body["exp"], int), f"exp is {body['exp']!r}, not epoch seconds")


@check("8", "the token expires five minutes after it was made")
async def token_lifetime(cp: Deployment) -> None:
    claims = token_claims((await cp.shared(main_agent)).enrolled["token"])
    expect.equal(claims["exp"] - claims["iat"], 300, "exp - iat")
    expect.that(abs(claims["iat"] - time.time()) < DAY, f"iat is {claims['iat']}, not epoch seconds")


@check("8", "the token is `b64url(json).b64url(hmac-sha256)`")
async def token_shape(cp: Deployment) -> None:
    parts = (await cp.shared(main_agent)).enrolled["token"].split(".")
    expect.equal(len(parts), 2, "the number of parts of the token")
    expect.that(not set("=+/") & set("".join(parts)), "the token is not unpadded base64url")
    expect.equal(len(unb64url(parts[1])), 32, "the length of the token's second part in bytes")


@check("8", "the token's JSON is {sub, scope, iat, exp, jti, msh}")
async def token_content(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    claims = token_claims(agent.enrolled["token"])
    expect.members(claims, ("sub", "scope", "iat", "exp", "jti"), "the token's JSON")
    expected = {name: agent.enrolled[name] for name in ("aid", "jti", "exp")}
    shown = {"aid": claims["sub"], "jti": claims["jti"], "exp": claims["exp"]}
    expect.equal(shown, expected, "sub, jti and exp in the token")
    expect.equal(claims["scope"], "register", "scope")


@check("8", "`msh` is the hex SHA-256 of the RFC 8785 canonical envelope", extension=True)
async def token_fingerprint(cp: Deployment) -> None:
    for make in (main_agent, other_agent):
        agent = await cp.shared(make)
        claims = token_claims(agent.enrolled["token"])
        expect.equal(claims.get("msh"), fingerprint(agent.manifest), "msh")


@check("8", "agents with P-256 keys enrol too")
async def p256(cp: Deployment) -> None:
    agent = await cp.shared(other_agent)
    expect.that(agent.aid.startswith("aid:pubkey:p256:"), f"{agent.aid} is no P-256 AID")
    expect.equal(agent.response.ok(201).get("aid"), agent.aid, "the AID registered")


@check("8", "a body that is not JSON is 400 `BODY_INVALID`")
async def not_json(cp: Deployment) -> None:
    await refused(cp, b"{", "BODY_INVALID")


@check("8", "a body that is no envelope is 400 `MANIFEST_INVALID`")
async def no_envelope(cp: Deployment) -> None:
    await refused(cp, b'{"manifest": []}')


@check("8", "a manifest that the SDK rejects is 400 `MANIFEST_INVALID` with its `verifyCode`")
async def rejected(cp: Deployment) -> None:
    body = await refused(cp, tampered(crafted(new_agent()), display_name="Somebody else"))
    expect.that(isinstance(body.get("verifyCode"), str) and body["verifyCode"], f"no verifyCode in {body}")


@check("8", "an expired manifest is 400 `MANIFEST_EXPIRED`")
async def expired(cp: Deployment) -> None:
    now = int(time.time())
    await refused(cp, crafted(new_agent(), published_at=now - DAY, expires_at=now - 60), "MANIFEST_EXPIRED")


@check("8", "a manifest with under five minutes left is 400 `MANIFEST_EXPIRED`")
async def expiring(cp: Deployment) -> None:
    soon = int(time.time()) + 300 - CLOCK_SKEW_SECS
    await refused(cp, crafted(new_agent(), expires_at=soon), "MANIFEST_EXPIRED")


@check("8", "a display name over 256 characters is `MANIFEST_INVALID`")
async def long_name(cp: Deployment) -> None:
    await refused(cp, crafted(new_agent(), display_name="n" * 257))


@check("8", "more than 256 capabilities are `MANIFEST_INVALID`")
async def many_capabilities(cp: Deployment) -> None:
    await refused(cp, crafted(new_agent(), offered_capabilities=[f"cap.{number}" for number in range(257)]))


@check("8", "a capability over 128 characters is `MANIFEST_INVALID`")
async def long_capability(cp: Deployment) -> None:
    await refused(cp, crafted(new_agent(), offered_capabilities=["c" * 129]))


@check("8", "a `handshake_endpoint` that is no absolute http(s) URL is `MANIFEST_INVALID`")
async def odd_endpoint(cp: Deployment) -> None:
    for endpoint in ("/handshake", "ftp://agent.example/"):
        await refused(cp, crafted(new_agent(), handshake_endpoint=endpoint))


@check("8", "in production a `handshake_endpoint` must be https, unless it is loopback")
async def plain_endpoint(cp: Deployment) -> None:
    cp.require_environment("production")
    await refused(cp, crafted(new_agent(), handshake_endpoint="http://agent.example/handshake"))


@check("8", "an `expires_at` beyond the year 9999 is `MANIFEST_INVALID`")
async def for_ever(cp: Deployment) -> None:
    await refused(cp, crafted(new_agent(), expires_at=LAST_SECOND + 1))


@check("8", "an `expires_at` that is not after `published_at` is `MANIFEST_INVALID`")
async def backwards(cp: Deployment) -> None:
    now = int(time.time())
    await refused(cp, crafted(new_agent(), published_at=now - DAY, expires_at=now - DAY))


@check("8", "a `published_at` over five minutes in the future is `MANIFEST_INVALID`")
async def postdated(cp: Deployment) -> None:
    ahead = int(time.time()) + 300 + CLOCK_SKEW_SECS
    await refused(cp, crafted(new_agent(), published_at=ahead, expires_at=ahead + DAY))


@check("8", "a `pinned_key` hint whose key is not the AID's is `MANIFEST_INVALID`")
async def foreign_hint(cp: Deployment) -> None:
    other = new_agent().aid.rpartition(":")[2]
    hint = {"type": "pinned_key", "subject": "Conformance agent", "public_key": other}
    await refused(cp, crafted(new_agent(), identity_hint=hint))
