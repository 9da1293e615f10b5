"""The OpenAPI document against the real command: what it says is what happens (contract, sections 2 and 3)."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import hypothesis
import pytest
import rfc8785
from schemathesis.generation import GenerationMode
from schemathesis.generation.case import Case

from aitp_cp.app import ENDPOINTS
from tests.support.agents import manifest, new_agent
from tests.support.app import AUTH
from tests.support.described import (
    CASES,
    CONFORMANCE,
    DOCUMENT,
    FOUND,
    OPERATIONS,
    SCHEMA,
    SEED,
    checks_of,
    deployment,
    sending,
    tries,
)
from tests.support.enrolment import bearer
from tests.support.process import Process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with deployment(tmp_path_factory.mktemp("openapi")) as process:
        yield process


@pytest.fixture(scope="module")
def answered() -> Iterator[Counter[GenerationMode]]:
    """How many cases were tried in each mode."""
    count: Counter[GenerationMode] = Counter()
    yield count
    print({mode.value: cases for mode, cases in count.items()})


def test_the_document_is_valid_and_served(server: Process) -> None:
    SCHEMA.validate()
    assert httpx.get(f"{server.url}/api/openapi.json").json() == DOCUMENT
    operations = [operation for path in DOCUMENT["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names)) == len(ENDPOINTS) == len(FOUND)
    links = [
        link
        for operation in operations
        for response in operation["responses"].values()
        for link in response.get("links", ())
    ]
    assert len(links) == sum(
        len(endpoint.leads_to) for endpoint in ENDPOINTS for status in endpoint.responses if status < 300
    )


def can_be_wrong(label: str) -> bool:
    operation = OPERATIONS[label].definition.raw
    return "requestBody" in operation or any(param["in"] == "query" for param in operation["parameters"])


WAYS = [
    *((label, GenerationMode.POSITIVE) for label in OPERATIONS),
    *((label, GenerationMode.NEGATIVE) for label in filter(can_be_wrong, OPERATIONS)),
]


@pytest.mark.parametrize(("label", "mode"), WAYS)
def test_every_answer_is_in_the_document(
    server: Process, answered: Counter[GenerationMode], label: str, mode: GenerationMode
) -> None:
    @hypothesis.seed(SEED)
    @tries(max(1, CASES // 2 // len(WAYS)))
    @hypothesis.given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    def explore(case: Case[Any]) -> None:
        answered[mode] += 1
        response = case.call(**sending(server))
        case.validate_response(response, checks=checks_of(case, response))

    explore()


SESSION = "a-session"
JTI, DELEGATION = "0f8fad5b-d9cb-469f-a165-70867728950e", "7c9e6679-7425-40de-944b-e07fc1f90ae7"
LIVE = "b7a3c1de-0d7e-4c65-9a41-5a4f6d0c2e11"


ASKED = {"GET /api/search": {"q": JTI}, "GET /api/trust/edges": {"aid": "aid:pubkey:" + "A" * 43}}


def populate(http: httpx.Client) -> dict[str, dict[str, str]]:
    """One of everything; the path parameters that lead to it, by the beginning of the path."""
    one, other, contained = new_agent(), new_agent(), new_agent()
    body = manifest(one)
    digest = hashlib.sha256(rfc8785.dumps(json.loads(body)))
    token = http.post("/api/registry/enroll", content=body).json()["token"]
    http.post("/api/registry/agents", content=body, headers=bearer(token)).raise_for_status()
    tct = {"jti": JTI, "iss": one.aid, "sub": other.aid, "grants": ["cap.read"], "iat": 1779710400, "exp": 1979710400}
    passed_on = {"jti": DELEGATION, "parent_jti": JTI, "delegator": other.aid, "delegatee": one.aid, "scope": ["cap"]}
    common = {"session_id": SESSION, "run_id": "a-run", "aid_a": one.aid, "aid_b": other.aid, "grants": ["cap.read"]}
    reports = [
        {"type": "handshake.complete", "payload": {"tct": tct, "boundary": "org"}, **common},
        {"type": "delegation.issued", "payload": passed_on, **common},
        {"type": "tct.issued", "payload": {"tct": {**tct, "jti": LIVE, "iss": contained.aid}}},
    ]
    made = [
        http.post("/api/events", json=reports),
        http.post("/api/revocation/entries", json={"jti": JTI, "reason": "lost"}),
        http.post("/api/webhooks", json={"url": "https://93.184.215.14/hook", "events": ["tct.revoked"]}),
        http.post("/api/trust-anchors", json={"issuerUrl": "https://idp.example"}),
        http.post("/api/pinned-keys", json={"aid": one.aid, "pubkey": one.key}),
        http.post("/api/keys", json={"name": "a reporter", "role": "reporter"}),
        http.post(f"/api/registry/agents/{contained.aid}/contain", json={"reason": "leaked"}),
        http.put(f"/api/registry/agents/{one.aid}/notes", json={"owner": "team-rag", "labels": ["rag"]}),
    ]
    for response in made:
        assert response.is_success, response.text
    webhook, anchor, key = made[2].json()["id"], made[3].json()["id"], made[5].json()["id"]
    test = http.post(f"/api/webhooks/{webhook}/test")
    assert test.status_code == 202
    delivery = test.json()["id"]
    return {
        "/api/webhooks/{id}/deliveries/": {"id": webhook, "deliveryId": delivery},
        "/api/registry/agents/": {"aid": one.aid, "sha256": digest.hexdigest()},
        "/api/sessions/": {"id": SESSION},
        "/api/webhooks/": {"id": webhook},
        "/api/trust-anchors/": {"id": anchor},
        "/api/keys/": {"id": key},
        "/api/containments/": {"id": made[6].json()["containment"]["id"]},
    }


def test_every_success_is_as_documented(server: Process) -> None:
    with httpx.Client(base_url=server.url, headers=AUTH) as http:
        places = populate(http)
    for label, operation in OPERATIONS.items():
        if operation.method.upper() != "GET" or operation.path.endswith("/jwks"):
            continue
        place = next((ids for start, ids in places.items() if operation.path.startswith(start)), {})
        case = operation.Case(path_parameters=place, query=ASKED.get(label, {}))
        response = case.call(base_url=server.url, headers=AUTH)
        assert response.status_code == 200, label
        case.validate_response(response, checks=CONFORMANCE)
        # Who holds the signed list is written down every ten seconds, an attempt may take as long, and nothing may need
        # attention.
        may_be_empty = label.endswith(("/reach", "/attempts", "/attention"))
        if "application/json" in response.headers["content-type"] and not may_be_empty:
            assert [] not in response.json().values(), f"{label} has nothing to show"
        if label.endswith("/export"):
            lines = operation.Case(path_parameters=place, query={"format": "jsonl"})
            lines.call_and_validate(base_url=server.url, headers=AUTH, checks=CONFORMANCE)


@pytest.mark.parametrize(
    ("label", "body"),
    [
        ("POST /api/webhooks", {"url": "https://93.184.215.14/hook", "active": False}),
        ("POST /api/trust-anchors", {"issuerUrl": "https://twice.example"}),
        ("POST /api/events", [{"type": "custom"}]),
        ("POST /api/keys", {"name": "twice", "role": "auditor"}),
    ],
)
def test_a_repeated_answer_is_as_documented(server: Process, label: str, body: Any) -> None:
    case = OPERATIONS[label].Case(body=body)
    for replayed in (None, "true"):
        response = case.call(**sending(server, {**AUTH, "Idempotency-Key": "the-same"}))
        assert response.headers.get("idempotency-replayed", [None])[0] == replayed
        case.validate_response(response, checks=CONFORMANCE)


def test_one_pinned_key_is_as_documented(server: Process) -> None:
    agent = new_agent()
    pinned = httpx.post(f"{server.url}/api/pinned-keys", json={"aid": agent.aid, "pubkey": agent.key}, headers=AUTH)
    assert pinned.status_code == 201
    response = (
        OPERATIONS["GET /api/pinned-keys"]
        .Case(query={"aid": agent.aid})
        .call_and_validate(**sending(server), checks=CONFORMANCE)
    )
    assert response.json()["aid"] == agent.aid
