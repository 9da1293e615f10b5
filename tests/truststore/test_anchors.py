"""CRUD on /api/trust-anchors."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from tests.support.app import App
from tests.support.rows import execute
from tests.truststore.support import ANCHORS, ISSUER, audited, create, patch

pytestmark = pytest.mark.anyio

WRONG: list[dict[str, Any]] = [
    {},
    {"issuerUrl": 7},
    {"issuerUrl": None},
    {"issuerUrl": ""},
    {"issuerUrl": "issuer.example"},
    {"issuerUrl": "/path"},
    {"issuerUrl": "ftp://issuer.example"},
    {"issuerUrl": "javascript:alert(1)"},
    {"issuerUrl": "https://"},
    {"issuerUrl": "https:///path"},
    {"issuerUrl": "https://issuer.example:port"},
    {"issuerUrl": "https://issuer.example:0"},
    {"issuerUrl": "https://user:secret@issuer.example"},
    {"issuerUrl": "https://issuer.example/a b"},
    {"issuerUrl": "https://issuer.example/\n"},
    {"issuerUrl": "https://issuer.example\\@other.example"},
    {"issuerUrl": "https://issuer.example/" + "x" * 2048},
    {"issuerUrl": ISSUER, "jwksUrl": "file:///etc/passwd"},
    {"issuerUrl": ISSUER, "jwksUrl": "https://keys.example/" + "x" * 2048},
    {"issuerUrl": ISSUER, "label": "x" * 129},
    {"issuerUrl": ISSUER, "label": "a\0b"},
    {"issuerUrl": ISSUER, "namespace": ""},
    {"issuerUrl": ISSUER, "namespace": "a b"},
    {"issuerUrl": ISSUER, "namespace": "x" * 129},
]


async def test_an_anchor_is_created_with_defaults(app: App) -> None:
    record = await create(app)
    assert list(record) == [
        "id",
        "namespace",
        "issuerUrl",
        "jwksUrl",
        "label",
        "jwksCachedAt",
        "lastError",
        "lastErrorAt",
        "addedBy",
        "createdAt",
        "updatedAt",
    ]
    assert (record["namespace"], record["issuerUrl"]) == ("default", ISSUER)
    assert (record["jwksUrl"], record["label"], record["jwksCachedAt"]) == (None, None, None)
    assert record["addedBy"].startswith("apikey:")
    assert record["createdAt"] == record["updatedAt"]
    assert (await app.get(f"{ANCHORS}/{record['id']}")).json() == record


async def test_anchors_are_listed_by_namespace(app: App) -> None:
    here = await create(app, namespace="here", label="one", jwksUrl="https://issuer.example/keys")
    there = await create(app, namespace="there")
    assert (await app.get(ANCHORS)).json() == {"trustAnchors": [here, there]}
    assert (await app.get(ANCHORS, params={"namespace": "there"})).json() == {"trustAnchors": [there]}
    assert (await app.get(ANCHORS, params={"namespace": "nowhere"})).json() == {"trustAnchors": []}


async def test_a_namespace_has_an_issuer_once(app: App) -> None:
    bodies = [{"issuerUrl": ISSUER, "label": str(number)} for number in range(6)]
    responses = await asyncio.gather(*(app.post(ANCHORS, body) for body in bodies))
    (created,) = [response.json() for response in responses if response.status_code == 201]
    refused = [response for response in responses if response.status_code == 409]
    assert len(refused) == 5
    for response in refused:
        assert response.json()["code"] == "ALREADY_EXISTS"
        assert response.json()["existing"] == {"id": created["id"]}
    assert len(await audited(app)) == 1
    await create(app, namespace="other")


async def test_what_is_wrong_is_refused(app: App) -> None:
    for body in WRONG:
        response = await app.post(ANCHORS, body)
        assert (response.status_code, response.json()["code"]) == (400, "BODY_INVALID"), body
    assert (await app.get(ANCHORS)).json() == {"trustAnchors": []}
    assert await audited(app) == []


async def test_the_longest_of_everything_fits(app: App) -> None:
    url = "https://issuer.example/" + "x" * (2048 - 23)
    record = await create(app, url, jwksUrl=url, label="\U0001f512" * 128, namespace="n" * 128)
    assert (record["issuerUrl"], record["label"]) == (url, "\U0001f512" * 128)


async def test_a_patch_changes_what_it_gives(app: App) -> None:
    record = await create(app, label="one", jwksUrl="https://keys.example/jwks")
    response = await patch(app, record["id"], {"label": None, "namespace": "other"})
    assert response.status_code == 200
    changed = {**record, "label": None, "namespace": "other", "updatedAt": response.json()["updatedAt"]}
    assert response.json() == changed
    assert (await app.get(f"{ANCHORS}/{record['id']}")).json() == changed
    assert [entry["action"] for entry in await audited(app)] == ["trust-anchor.update", "trust-anchor.create"]


async def test_a_patch_that_changes_nothing_is_audited_like_any_other(app: App) -> None:
    record = await create(app, label="one")
    for change in ({"label": "one"}, {}):
        response = (await patch(app, record["id"], change)).json()
        assert response == {**record, "updatedAt": response["updatedAt"]}
    assert [entry["action"] for entry in await audited(app)] == ["trust-anchor.update"] * 2 + ["trust-anchor.create"]


async def test_a_patch_cannot_take_anothers_place(app: App) -> None:
    first, second = await create(app), await create(app, "https://other.example")
    response = await patch(app, second["id"], {"issuerUrl": ISSUER})
    assert (response.status_code, response.json()["code"]) == (409, "ALREADY_EXISTS")
    assert response.json()["existing"] == {"id": first["id"]}
    assert (await app.get(f"{ANCHORS}/{second['id']}")).json() == second
    assert len(await audited(app)) == 2


async def test_a_patch_is_checked(app: App) -> None:
    record = await create(app)
    wrong = ({"issuerUrl": None}, {"issuerUrl": "nonsense"}, {"jwksUrl": "x:y"}, {"namespace": None}, {"label": 7})
    for change in wrong:
        response = await patch(app, record["id"], change)
        assert (response.status_code, response.json()["code"]) == (400, "BODY_INVALID"), change
    assert (await app.get(f"{ANCHORS}/{record['id']}")).json() == record


async def test_a_patch_is_not_refused_for_what_an_older_control_plane_left(app: App) -> None:
    record = await create(app)
    await execute(app, "UPDATE trust_anchors SET namespace = 'a b', issuer_url = 'ours', jwks_url = ''")
    changed = (await patch(app, record["id"], {"label": "known"})).json()
    assert (changed["label"], changed["namespace"], changed["issuerUrl"]) == ("known", "a b", "ours")
    assert (await patch(app, record["id"], {"issuerUrl": "theirs"})).status_code == 400
    assert (await patch(app, record["id"], {"namespace": "c d"})).status_code == 400


async def test_the_audit_holds_no_password_that_an_older_control_plane_let_in(app: App) -> None:
    record = await create(app)
    urls = "issuer_url = 'https://u:p@ss@issuer.example/a@b', jwks_url = 'https://:hidden@issuer.example/keys'"
    await execute(app, f"UPDATE trust_anchors SET {urls}")
    await patch(app, record["id"], {"label": "known"})
    await app.delete(f"{ANCHORS}/{record['id']}")
    for entry in (await audited(app))[:2]:
        details = entry["details"]
        assert (details["issuerUrl"], details["jwksUrl"]) == (
            "https://issuer.example/a@b",
            "https://issuer.example/keys",
        )


async def test_an_anchor_is_deleted_once(app: App) -> None:
    record = await create(app)
    response = await app.delete(f"{ANCHORS}/{record['id']}")
    assert (response.status_code, response.content) == (204, b"")
    assert (await app.delete(f"{ANCHORS}/{record['id']}")).status_code == 404
    newest = (await audited(app))[0]
    assert (newest["action"], newest["targetId"]) == ("trust-anchor.delete", record["id"])
    assert newest["details"]["issuerUrl"] == ISSUER


async def test_ids_are_uuids_and_known(app: App) -> None:
    for path in ("{id}", "{id}/jwks"):
        unknown = await app.get(f"{ANCHORS}/{path.format(id=uuid4())}")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "NOT_FOUND")
        nonsense = await app.get(f"{ANCHORS}/{path.format(id='nonsense')}")
        assert (nonsense.status_code, nonsense.json()["code"]) == (400, "ID_INVALID")
    assert (await patch(app, str(uuid4()), {"label": "x"})).status_code == 404
    assert (await patch(app, "nonsense", {"label": "x"})).json()["code"] == "ID_INVALID"
    assert (await app.delete(f"{ANCHORS}/nonsense")).json()["code"] == "ID_INVALID"


async def test_an_idempotency_key_replays_the_answer(app: App) -> None:
    body, key = {"issuerUrl": ISSUER}, {"Idempotency-Key": "k"}
    first, second = [await app.post(ANCHORS, body, headers=key) for _ in range(2)]
    assert (second.status_code, second.json()) == (201, first.json())
    assert second.headers["Idempotency-Replayed"] == "true"
    refused = [await app.post(ANCHORS, body, headers={"Idempotency-Key": "other"}) for _ in range(2)]
    assert refused[1].headers["Idempotency-Replayed"] == "true"
    assert refused[0].json() == refused[1].json()
    assert refused[1].json()["existing"] == {"id": first.json()["id"]}


async def test_anchors_need_a_key(app: App) -> None:
    for method in ("GET", "POST"):
        assert (await app.http.request(method, ANCHORS, json={"issuerUrl": ISSUER})).status_code == 401
