"""The OpenAPI document as generators of clients read it: absent is absent (row 20)."""

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec
import pytest
from jsonschema_rs import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from aitp_cp.app import ENDPOINTS, openapi_document
from aitp_cp.audit.model import Actor
from aitp_cp.errors import AppError
from aitp_cp.keys.model import NewKey
from aitp_cp.keys.service import scopes_of
from aitp_cp.revocation import service
from aitp_cp.revocation.model import NewRevocation
from aitp_cp.web.body import decode
from aitp_cp.web.schemas import schemas_of
from tests.support.app import MovableClock

DOCUMENT = json.loads(openapi_document())
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
BODIES = {endpoint.name: endpoint.body for endpoint in ENDPOINTS if isinstance(endpoint.body, type(msgspec.Struct))}
# One value for each required member, by name.
SOUND = {
    "url": "https://hooks.example/",
    "issuerUrl": "https://issuer.example",
    "aid": "aid:pubkey:" + "A" * 43,
    "pubkey": "A" * 43,
    "namespace": "home",
    "name": "a name",
    "role": "reporter",
    "reason": "the key leaked",
    "since": "2026-01-01T00:00:00Z",
    "scopes": ["events:write"],
    "jti": "0b8f6ad5-6b1a-4d4e-9d57-0f9c2a3b1c11",
    "jtis": ["0b8f6ad5-6b1a-4d4e-9d57-0f9c2a3b1c11"],
}


def every_object(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for child in node.values():
            yield from every_object(child)
    elif isinstance(node, list):
        for child in node:
            yield from every_object(child)


def test_a_strict_validator_accepts_the_document() -> None:
    """Row 20: openapi-spec-validator finds nothing, defaults of a wrong type least of all."""
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


def test_no_member_has_a_default() -> None:
    """Row 20: an optional member with a default is a required one for generated clients."""
    assert [node for node in every_object(SCHEMAS) if "default" in node and "type" in node] == []
    assert '"default":null' not in openapi_document().decode()


def minimal(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The smallest bodies: what is required, with each of the alternatives."""
    for group in schema.get("oneOf", [{"required": []}]):
        yield {name: SOUND[name] for name in (*schema["required"], *group["required"])}


@pytest.mark.parametrize("name", BODIES)
def test_the_smallest_body_is_described_and_accepted(name: str) -> None:
    """Row 20: what the schema requires is enough for the server, and nothing of it can be left out."""
    shape = BODIES[name]
    validator = Draft202012Validator({**SCHEMAS[shape.__name__], "components": DOCUMENT["components"]})
    for body in minimal(SCHEMAS[shape.__name__]):
        assert validator.is_valid(body)
        read(body, shape)
        for member in body:
            less = {name: value for name, value in body.items() if name != member}
            assert not validator.is_valid(less)
            with pytest.raises(AppError):
                read(less, shape)


def read(body: dict[str, Any], shape: Any) -> None:
    """As its endpoint reads it; a revocation is looked at once more."""
    asked = decode(msgspec.json.encode(body), shape)
    if isinstance(asked, NewRevocation):
        service.read(asked, Actor("tester", None), MovableClock()())
    if isinstance(asked, NewKey):
        scopes_of(asked)


class Sent(msgspec.Struct):
    plain: int
    always: bool = True
    null: str | None = None
    unset: str | msgspec.UnsetType = msgspec.UNSET
    listed: list[int] = []


class Sparse(msgspec.Struct, omit_defaults=True):
    plain: int
    sometimes: str | None = None


class Asked(msgspec.Struct):
    REQUIRED_ONE_OF: ClassVar = (("one",), ("many",))

    other: int
    one: str | None = None
    many: list[str] | None = None


def test_what_an_answer_always_holds_is_required() -> None:
    """Row 20: answers encode their defaults, so a client may rely on them; requests need not name them."""
    _, components = schemas_of([Asked], [Sent, Sparse, list[Sent]])
    assert components["Sent"]["required"] == ["plain", "always", "null", "listed"]
    assert components["Sparse"]["required"] == ["plain"]
    assert components["Asked"]["required"] == ["other"]
    assert components["Asked"]["oneOf"] == [{"required": ["one"]}, {"required": ["many"]}]


def test_answers_with_defaults_say_so() -> None:
    """Row 20: the members that TypeScript clients read without a check."""
    assert {"secret", "secretOmitted"} <= set(SCHEMAS["ReplayedWebhook"]["required"])
    assert "deleted" in SCHEMAS["DeletedWebhook"]["required"]
    assert "nextAfter" not in SCHEMAS["HistoryPage"]["required"]
    assert "manifestJson" not in SCHEMAS["AgentView"]["required"]
