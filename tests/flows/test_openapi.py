"""The OpenAPI document against the real command: what it says is what happens (contract, sections 2 and 3)."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.generation.case import Case

from aitp_cp.app import ENDPOINTS, openapi_document
from tests.support.agents import manifest, new_agent
from tests.support.app import AUTH
from tests.support.enrolment import bearer
from tests.support.postgres import migrated_database
from tests.support.process import Process

DOCUMENT = json.loads(openapi_document())
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
ENDLESS = {endpoint.path for endpoint in ENDPOINTS if endpoint.streaming}
FOUND = [result.ok() for result in SCHEMA.get_all_operations() if isinstance(result, Ok)]
OPERATIONS = {operation.label: operation for operation in FOUND if operation.path not in ENDLESS}
NEVER_SERVED = "POST /api/aitp/handshake/hello"
CONFORMANCE = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with (
        migrated_database() as dsn,
        Process(dsn, tmp_path_factory.mktemp("openapi") / "log", LOG_LEVEL="warn") as process,
    ):
        yield process
        assert "Traceback" not in process.log()


def test_the_document_is_valid_and_served(server: Process) -> None:
    SCHEMA.validate()
    assert httpx.get(f"{server.url}/api/openapi.json").json() == DOCUMENT
    names = [operation["operationId"] for path in DOCUMENT["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names)) == len(ENDPOINTS) == len(FOUND)


def can_be_wrong(label: str) -> bool:
    operation = OPERATIONS[label].definition.raw
    return "requestBody" in operation or any(param["in"] == "query" for param in operation["parameters"])


@pytest.mark.parametrize(
    ("label", "mode"),
    [
        *((label, GenerationMode.POSITIVE) for label in OPERATIONS),
        *((label, GenerationMode.NEGATIVE) for label in filter(can_be_wrong, OPERATIONS)),
    ],
)
def test_every_answer_is_in_the_document(server: Process, label: str, mode: GenerationMode) -> None:
    checks = CONFORMANCE if label == NEVER_SERVED else [*CONFORMANCE, not_a_server_error]

    @settings(max_examples=8, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    def explore(case: Case[Any]) -> None:
        case.call_and_validate(base_url=server.url, headers=AUTH, checks=checks, timeout=20)

    explore()


SESSION = "a-session"
JTI, DELEGATION = "0f8fad5b-d9cb-469f-a165-70867728950e", "7c9e6679-7425-40de-944b-e07fc1f90ae7"


def populate(http: httpx.Client) -> dict[str, dict[str, str]]:
    """One of everything; the path parameters that lead to it, by the beginning of the path."""
    one, other = new_agent(), new_agent()
    body = manifest(one)
    token = http.post("/api/registry/enroll", content=body).json()["token"]
    http.post("/api/registry/agents", content=body, headers=bearer(token)).raise_for_status()
    tct = {"jti": JTI, "iss": one.aid, "sub": other.aid, "grants": ["cap.read"], "iat": 1779710400, "exp": 1979710400}
    passed_on = {"jti": DELEGATION, "parent_jti": JTI, "delegator": other.aid, "delegatee": one.aid, "scope": ["cap"]}
    common = {"session_id": SESSION, "run_id": "a-run", "aid_a": one.aid, "aid_b": other.aid, "grants": ["cap.read"]}
    reports = [
        {"type": "handshake.complete", "payload": {"tct": tct, "boundary": "org"}, **common},
        {"type": "delegation.issued", "payload": passed_on, **common},
    ]
    made = [
        http.post("/api/events", json=reports),
        http.post("/api/revocation/entries", json={"jti": JTI, "reason": "lost"}),
        http.post("/api/webhooks", json={"url": "https://93.184.215.14/hook", "events": ["tct.revoked"]}),
        http.post("/api/trust-anchors", json={"issuerUrl": "https://idp.example"}),
        http.post("/api/pinned-keys", json={"aid": one.aid, "pubkey": one.key}),
    ]
    for answer in made:
        assert answer.is_success, answer.text
    webhook, anchor = made[2].json()["id"], made[3].json()["id"]
    assert http.post(f"/api/webhooks/{webhook}/test").status_code == 202
    return {
        "/api/registry/agents/": {"aid": one.aid},
        "/api/sessions/": {"id": SESSION},
        "/api/webhooks/": {"id": webhook},
        "/api/trust-anchors/": {"id": anchor},
    }


def test_every_success_is_as_documented(server: Process) -> None:
    with httpx.Client(base_url=server.url, headers=AUTH) as http:
        places = populate(http)
    for label, operation in OPERATIONS.items():
        if operation.method.upper() != "GET" or operation.path.endswith("/jwks"):
            continue
        place = next((ids for start, ids in places.items() if operation.path.startswith(start)), {})
        case = operation.Case(path_parameters=place)
        answer = case.call(base_url=server.url, headers=AUTH)
        assert answer.status_code == 200, label
        case.validate_response(answer, checks=CONFORMANCE)
        if "application/json" in answer.headers["content-type"]:
            assert [] not in answer.json().values(), f"{label} has nothing to show"
        if label.endswith("/export"):
            lines = operation.Case(path_parameters=place, query={"format": "jsonl"})
            lines.call_and_validate(base_url=server.url, headers=AUTH, checks=CONFORMANCE)
