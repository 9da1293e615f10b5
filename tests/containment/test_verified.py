"""What signatures change: a verified token is listed whenever it comes, and a false claim revokes nobody's token."""

import json

import aitp
import pytest

from tests.containment.support import claimed, contain, contained, live, proven, report, signed, tokens
from tests.revocation.support import LIST, get_list
from tests.support.agents import claims_in, handshake, new_agent
from tests.support.app import OTHER_KEY, App
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

OTHER = {"Authorization": f"Bearer {OTHER_KEY}"}


async def listed(app: App, *jtis: str) -> None:
    """Wait until exactly these are on the list: a second at most."""

    async def are() -> bool:
        return sorted(await get_list(app)) == sorted(jtis)

    await until(are, 1)


async def test_an_outsider_sees_the_token_revoked(app: App) -> None:
    bad, peer = new_agent(), new_agent()
    token = handshake(peer, bad).initiator.token
    await report(app, proven(token))

    async def verdict() -> str:
        """What the holder finds under the list that it fetches."""
        text = (await app.http.get(LIST)).text
        aitp.verify_revocation_list(text, app.rt.signer.aid)
        revoked = {entry["jti"] for entry in json.loads(text)["revocation_list"]["entries"]}
        try:
            return peer.sdk.verify_tct(token, "cap.read", revoked_jtis=revoked).jti
        except RuntimeError as refused:
            return str(refused.code)  # type: ignore[attr-defined]

    assert await verdict() == claims_in(token)["jti"]
    plan = (await contain(app, bad, dry=True)).json()
    assert plan["tokens"]["byVerdict"] == {"verified": 1}
    await contained(app, bad)
    assert await verdict() == "TCT_REVOKED"


async def test_only_what_is_verified(app: App) -> None:
    bad, peer = new_agent(), new_agent()
    [real, claim] = await report(app, proven(signed(peer, bad)), claimed(bad.aid, peer.aid))
    done = await contained(app, bad, include="verified")
    assert done["tokens"]["byVerdict"] == {"verified": 1}
    assert await get_list(app) == [real]
    assert await live(app, bad) == [claim]


async def test_a_verified_token_reported_later_is_listed_and_a_claim_is_not(app: App) -> None:
    bad, peer = new_agent(), new_agent()
    done = await contained(app, bad)
    token = signed(bad, peer)
    jti = claims_in(token)["jti"]
    await report(app, claimed(bad.aid, peer.aid, jti=jti))
    assert await get_list(app) == []
    await report(app, proven(token), proven(signed(bad, peer, exp=1_700_000_000, iat=1_600_000_000)))
    await listed(app, jti)
    assert await live(app, bad) == []
    stored = (await app.get(f"/api/containments/{done['containment']['id']}")).json()["containment"]
    assert (stored["claimedOnly"], stored["laterListed"]) == (1, 1)


async def test_a_claim_over_somebody_elses_token_is_collateral(app: App) -> None:
    """An accomplice claims that a victim's token belongs to the agent that is about to be contained."""
    bad, victim, peer = new_agent(), new_agent(), new_agent()
    token = signed(victim, peer)
    jti = claims_in(token)["jti"]
    await report(app, claimed(bad.aid, peer.aid, jti=jti))
    await app.http.post("/api/events", json=[proven(token)], headers=OTHER)
    done = await contained(app, bad)
    assert done["tokens"]["issued"] == 0
    assert [(one["kind"], one["jti"]) for one in done["delegations"]["collateral"]] == [("token", jti)]
    assert await get_list(app) == []


async def test_a_claim_does_not_hide_a_token_that_the_agent_signed(app: App) -> None:
    """An accomplice claims the id for two strangers first, so the row shows those."""
    bad, peer = new_agent(), new_agent()
    own = [signed(bad, peer), signed(bad, peer)]
    before, after = [claims_in(token)["jti"] for token in own]
    for token in own:
        claim = claimed(new_agent().aid, new_agent().aid, jti=claims_in(token)["jti"])
        await app.http.post("/api/events", json=[claim], headers=OTHER)
    await report(app, proven(own[0]))
    done = await contained(app, bad)
    assert done["tokens"] == {"issued": 1, "held": 0, "unlistable": 0, "byVerdict": {"verified": 1}, "shared": 0}
    assert await get_list(app) == [before]
    await report(app, proven(own[1]))
    await listed(app, before, after)


async def test_a_token_of_an_accomplice_does_not_save_one_that_the_agent_signed(app: App) -> None:
    """The list knows ids alone, so both are revoked; the plan says so."""
    bad, accomplice, peer = new_agent(), new_agent(), new_agent()
    token = signed(bad, peer)
    jti = claims_in(token)["jti"]
    await app.http.post("/api/events", json=[proven(signed(accomplice, peer, jti=jti))], headers=OTHER)
    await report(app, proven(token))
    plan = (await contain(app, bad, dry=True)).json()
    assert (plan["tokens"]["issued"], plan["tokens"]["shared"], plan["delegations"]["collateral"]) == (1, 1, [])
    await contained(app, bad, expect=plan["planDigest"])
    assert await get_list(app) == [jti]
    [row] = await tokens(app)
    assert (row["issuer"], [said["revoked"] for said in row["statements"]]) == (accomplice.aid, [True, True])
