"""The OpenAPI document as a source of requests: how many, from which seed, and what each answer must keep to."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import schemathesis
from hypothesis import HealthCheck
from schemathesis.checks import (
    CheckFunction,
    content_type_conformance,
    ensure_resource_availability,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    use_after_free,
)
from schemathesis.core.result import Ok
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case

from aitp_cp.app import ENDPOINTS, openapi_document
from tests.support.app import AUTH
from tests.support.postgres import migrated_database
from tests.support.process import Process

# Half of the cases go to each operation by itself, half along links.
CASES = int(os.environ.get("OPENAPI_CASES", "1000"))
SEED = int(os.environ.get("OPENAPI_SEED", "8"))

DOCUMENT = json.loads(openapi_document())
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
# Only what is declared is followed: guessed links would hide that one is missing.
SCHEMA.config.phases.stateful.inference.algorithms = []
ENDLESS = {endpoint.name for endpoint in ENDPOINTS if endpoint.streaming}
FOUND = [result.ok() for result in SCHEMA.get_all_operations() if isinstance(result, Ok)]
OPERATIONS = {operation.label: operation for operation in FOUND if operation.label not in ENDLESS}

NEVER_SERVED = "POST /api/aitp/handshake/hello"
CONFORMANCE: list[CheckFunction] = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# What was created is there, and what was deleted is not; a deregistered agent and a revoked key stay.
LIFE: list[CheckFunction] = [ensure_resource_availability, use_after_free]


def checks_of(case: Case[Any], response: Response) -> list[CheckFunction]:
    """All that this answer must keep to; two refusals are 5xx by contract."""
    refused = case.operation.label == NEVER_SERVED or code_of(response) == "JWKS_NOT_CACHED"
    stays = case.path.startswith(("/api/registry/agents/", "/api/keys/"))
    return [*CONFORMANCE, *([] if refused else [not_a_server_error]), *([] if stays else LIFE)]


def code_of(response: Response) -> str | None:
    """The code of a refusal."""
    if response.status_code < 400:
        return None
    code: str | None = response.json().get("code")
    return code


def tries(cases: int, **options: Any) -> hypothesis.settings:
    """So many cases, with nothing remembered from earlier runs: `hypothesis.seed(SEED)` makes them the same ones."""
    return hypothesis.settings(
        max_examples=cases, database=None, deadline=None, suppress_health_check=list(HealthCheck), **options
    )


@contextmanager
def deployment(folder: Path) -> Iterator[Process]:
    """`aitp-cp serve` that may send to this machine; nothing may go wrong in it unnoticed."""
    with (
        migrated_database() as dsn,
        Process(dsn, folder / "log", LOG_LEVEL="warn", WEBHOOK_ALLOWED_CIDRS="127.0.0.0/8") as process,
    ):
        yield process
        assert "Traceback" not in process.log()


def sending(server: Process, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """How a case is sent."""
    return {"base_url": server.url, "headers": AUTH if headers is None else headers, "timeout": 20}
