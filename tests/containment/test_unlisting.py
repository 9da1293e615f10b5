"""Entries leave the signed list when nobody accepts their tokens any more, and only then."""

from time import time
from typing import Any

import pytest

from aitp_cp.revocation import jobs
from tests.containment.support import claimed, proven, report, signed
from tests.revocation.support import ENTRIES, get_list, revoke
from tests.support.agents import claims_in, new_agent
from tests.support.app import OTHER_KEY, App
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

OVER: dict[str, Any] = {"iat": int(time()) - 7200, "exp": int(time()) - 3600}
OTHER = {"Authorization": f"Bearer {OTHER_KEY}"}


async def listed(app: App, *jtis: str) -> None:
    async def are() -> bool:
        return sorted(await get_list(app)) == sorted(jtis)

    await until(are, 3)


async def test_only_what_ended_by_its_signature_leaves(app: App) -> None:
    issuer, holder = new_agent(), new_agent()
    running, over = signed(issuer, holder), signed(issuer, holder, **OVER)
    just_over = signed(issuer, holder, iat=int(time()) - 7200, exp=int(time()) - 60)
    false = claimed(issuer.aid, holder.aid, exp=OVER["exp"])
    jtis = await report(app, *map(proven, (running, over, just_over)), false)
    unknown = await revoke(app)
    for jti in jtis:
        await revoke(app, jti)
    await listed(app, unknown, *jtis)
    await jobs.unlist(app.rt)
    await listed(app, unknown, jtis[0], jtis[2], jtis[3])
    [entry] = (await app.get(ENTRIES, params={"jti": jtis[1]})).json()["entries"]
    assert (entry["listed"], entry["unlistedAt"] is not None) == (False, True)
    assert [token["revoked"] for token in (await app.get("/api/tcts")).json()["tcts"]] == [True] * 4


async def test_a_later_token_puts_it_back(app: App) -> None:
    issuer, holder = new_agent(), new_agent()
    over = signed(issuer, holder, **OVER)
    jti = claims_in(over)["jti"]
    await report(app, proven(over))
    await revoke(app, jti)
    await jobs.unlist(app.rt)
    await listed(app)
    await report(app, claimed(issuer.aid, holder.aid))
    await listed(app)
    await report(app, proven(signed(issuer, holder, jti=jti)))
    await listed(app, jti)
    await jobs.unlist(app.rt)
    await listed(app, jti)


@pytest.mark.parametrize("stranger", [True, False])
async def test_a_conflict_puts_it_back(app: App, stranger: bool) -> None:
    """Another signed token under the same id, or a delegation: both may still be accepted by somebody."""
    issuer, holder = new_agent(), new_agent()
    over = signed(issuer, holder, **OVER)
    jti = claims_in(over)["jti"]
    await report(app, proven(over))
    await revoke(app, jti)
    await jobs.unlist(app.rt)
    await listed(app)
    event = proven(signed(new_agent(), holder, jti=jti))
    if not stranger:
        claims = {"delegator": issuer.aid, "delegatee": holder.aid, "parent_jti": jti, "jti": jti}
        event = {"type": "delegation.issued", "ts": "2026-01-01T00:00:00Z", "payload": claims}
    await app.http.post("/api/events", json=[event], headers=OTHER)
    await listed(app, jti)
