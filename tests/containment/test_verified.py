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


async def test_nine_false_tokens_hide_no_true_one(app: App) -> None:
    """A row has room for eight signed tokens; what it leaves out is found, and revoked, all the same (decision 1)."""
    bad, peer = new_agent(), new_agent()
    token = signed(bad, peer)
    jti = claims_in(token)["jti"]
    false = [signed(new_agent(), peer, jti=jti) for _ in range(9)]
    for batch in (false[:2], false[2:]):
        await app.http.post("/api/events", json=[proven(one) for one in batch], headers=OTHER)
    await report(app, proven(token), proven(signed(bad, new_agent())))
    [row] = [row for row in await tokens(app) if row["jti"] == jti]
    issuers = {said["issuer"] for said in row["statements"]}
    assert issuers == {claims_in(one)["iss"] for one in (*false, token)}
    shown, own = [await tokens(app, issuer=aid) for aid in (row["issuer"], bad.aid)]
    assert [(one["jti"], one["revoked"]) for one in shown] == [(jti, False)]
    [hidden] = [one for one in own if one["jti"] == jti]
    assert (hidden["subject"], hidden["verdict"], hidden["conflict"]) == (peer.aid, "verified", True)
    assert len(own) == len({one["jti"] for one in own}) == 2

    plan = (await contain(app, bad, dry=True)).json()["tokens"]
    assert (plan["issued"], plan["shared"], plan["byVerdict"]) == (2, 1, {"verified": 2})
    await contained(app, bad)
    assert jti in await get_list(app)
    assert all(one["revoked"] for one in await tokens(app, issuer=bad.aid))
    assert await tokens(app, issuer=bad.aid, active="true") == []


async def test_a_list_by_issuer_is_read_page_by_page(app: App) -> None:
    """Shown and hidden tokens stand in one order, each once."""
    bad, peer, other = new_agent(), new_agent(), new_agent()
    own = [signed(bad, peer, iat=1_700_000_000 + place) for place in range(7)]
    jtis = [claims_in(token)["jti"] for token in own]
    for jti in jtis[::2]:
        await report(app, proven(signed(other, peer, jti=jti)))
    await app.http.post("/api/events", json=[proven(token) for token in own], headers=OTHER)
    read: list[str] = []
    query = {"issuer": bad.aid, "limit": "2"}
    while True:
        page = (await app.get("/api/tcts", params=query)).json()
        read += [token["jti"] for token in page["tcts"]]
        if "nextBefore" not in page:
            break
        query["before"] = page["nextBefore"]
    assert read == jtis[::-1]
    skipped = (await app.get("/api/tcts", params={"issuer": bad.aid, "limit": "3", "offset": "5"})).json()["tcts"]
    assert [token["jti"] for token in skipped] == jtis[1::-1]
    soon = await tokens(app, issuer=bad.aid, expiresBefore="2100-01-01T00:00:00Z")
    assert {token["jti"] for token in soon} == set(jtis)
