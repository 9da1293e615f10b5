"""Key sets of identity providers: the last good one is kept, nothing private is stored, and failures are shown."""

import gzip
import json
from typing import Any

import pytest

from aitp_cp.truststore.refresher import JwksRefresher
from aitp_cp.truststore.urls import complaint
from tests.deliveries.support import LOCAL, sql
from tests.support.app import App, running_app
from tests.support.provider import Provider
from tests.support.receiver import Answer, always, receiver
from tests.truststore.support import ANCHORS, create, later, patch

pytestmark = pytest.mark.anyio

PUBLIC = {"kty": "RSA", "kid": "one", "n": "AAAA", "e": "AQAB"}
PRIVATE = dict.fromkeys(("d", "p", "q", "dp", "dq", "qi", "oth", "k"), "c2VjcmV0")


async def refreshed(app: App, record: dict[str, Any]) -> dict[str, Any]:
    """The anchor after it has been fetched once more."""
    await later(app, 1000)
    await app.rt.get(JwksRefresher).run_due()
    shown: dict[str, Any] = (await app.get(f"{ANCHORS}/{record['id']}")).json()
    return shown


async def test_an_empty_set_does_not_replace_a_good_one(database_url: str) -> None:
    """Row 25: a provider's second answer was `{"keys":[]}`, and the good set was gone."""
    async with Provider() as provider, running_app(database_url, **LOCAL) as app:
        provider.say("/keys", {"keys": [PUBLIC]})
        record = await create(app, jwksUrl=f"{provider.url}/keys")
        good = await refreshed(app, record)
        assert (good["lastError"], good["lastErrorAt"]) == (None, None)

        provider.say("/keys", {"keys": []})
        shown = await refreshed(app, record)
        assert shown["lastError"] == "the key set holds no public key"
        assert shown["lastErrorAt"] > shown["jwksCachedAt"] == good["jwksCachedAt"]
        assert (await app.get(f"{ANCHORS}/{record['id']}/jwks")).json() == {"keys": [PUBLIC]}
        assert shown in (await app.get(ANCHORS)).json()["trustAnchors"]

        provider.say("/keys", {"keys": [PUBLIC, PUBLIC]})
        assert (await refreshed(app, record))["lastError"] is None


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (Answer(500), "the provider answered 500"),
        (Answer(drop=True), "the connection was closed before a response"),
        (Answer(body=b"<html>"), "JSON"),
        (Answer(body=b"{}", headers={"Content-Encoding": "br"}), "compressed in a way that was not asked for"),
        (Answer(body=gzip.compress(b"\0" * 9_000_000), headers={"Content-Encoding": "gzip"}), "larger than 1048576"),
        (Answer(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "cut off"),
    ],
)
async def test_the_last_failure_is_shown_on_the_anchor(database_url: str, response: Answer, said: str) -> None:
    """Row 25: why a key set is missing or old was to be found in the log alone."""
    async with receiver(response) as there, running_app(database_url, **LOCAL) as app:
        record = await create(app, jwksUrl=f"{there.url}?token=in-the-url")
        shown = await refreshed(app, record)
        assert said in shown["lastError"]
        assert "in-the-url" not in shown["lastError"]
        there.behave = always(Answer(body=json.dumps({"keys": [PUBLIC]}).encode()))
        assert (await refreshed(app, record))["lastError"] is None


async def test_a_change_of_the_source_forgets_the_failure(database_url: str) -> None:
    """Row 25: what is shown is about the source that is configured."""
    async with Provider() as provider, running_app(database_url, **LOCAL) as app:
        record = await create(app, jwksUrl=f"{provider.url}/missing")
        assert (await refreshed(app, record))["lastError"] is not None
        changed = (await patch(app, record["id"], {"jwksUrl": f"{provider.url}/keys"})).json()
        assert (changed["lastError"], changed["lastErrorAt"]) == (None, None)


async def test_private_members_are_neither_stored_nor_served(database_url: str) -> None:
    """Row 25: a provider that serves its private key would have it copied to everybody who may read anchors."""
    async with Provider() as provider, running_app(database_url, **LOCAL) as app:
        provider.say("/keys", {"keys": [{**PUBLIC, **PRIVATE}, {"kty": "oct", "k": "c2VjcmV0"}], "issued": 1})
        record = await create(app, jwksUrl=f"{provider.url}/keys")
        await refreshed(app, record)
        assert (await app.get(f"{ANCHORS}/{record['id']}/jwks")).json() == {"keys": [PUBLIC], "issued": 1}
        ((stored,),) = await sql(app, "SELECT jwks_cache::text FROM trust_anchors")
        assert "c2VjcmV0" not in stored


async def test_a_compressed_set_is_understood(database_url: str) -> None:
    """Row 25: some providers compress although nobody asked for it."""
    body = gzip.compress(json.dumps({"keys": [PUBLIC]}).encode())
    async with (
        receiver(Answer(body=body, headers={"Content-Encoding": "gzip"})) as there,
        running_app(database_url, **LOCAL) as app,
    ):
        record = await create(app, jwksUrl=f"{there.url}?sig=a%2Fb~&x=[1]")
        assert (await refreshed(app, record))["lastError"] is None
        assert there.got[0].path == "/hook?sig=a%2Fb~&x=[1]"


@pytest.mark.parametrize("url", ["https://b\u00fccher.example/r\u00e9alm", "https://issuer.example/a|b"])
def test_providers_urls_follow_the_same_rules_as_webhooks_urls(url: str) -> None:
    """Row 25: other letters in a name or a path are encoded when they are sent, not refused."""
    assert complaint(url) is None
