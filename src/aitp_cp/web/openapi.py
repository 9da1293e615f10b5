"""The endpoint table as an OpenAPI 3.1 document."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aitp_cp import errors
from aitp_cp.errors import AppError
from aitp_cp.web.endpoint import Bucket, Endpoint, Gate, Link
from aitp_cp.web.schemas import parameters_of, schemas_of

ERROR_SCHEMA = {
    "type": "object",
    "required": ["error", "code"],
    "properties": {"error": {"type": "string"}, "code": {"type": "string"}},
}
EVERYWHERE: tuple[type[AppError], ...] = (
    errors.BadRequest,
    errors.UriTooLong,
    errors.HostUnknown,
    errors.HeadersTooLarge,
    errors.Internal,
    errors.ShuttingDown,
    errors.DatabaseUnavailable,
)


@dataclass(frozen=True, slots=True)
class Document:
    """The document as the bytes that are served."""

    body: bytes


def document(endpoints: Iterable[Endpoint], version: str) -> dict[str, Any]:
    """Return the whole document, from the endpoint table alone."""
    table = [endpoint for endpoint in endpoints if endpoint.documented]
    by_struct, components = schemas_of(*_shapes(table))
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in table:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, by_struct)
    return {
        "openapi": "3.1.0",
        "info": {"title": "AITP control plane", "version": version, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": {**components, "Error": ERROR_SCHEMA},
            "securitySchemes": {
                "apiKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "an API key",
                },
                "agentToken": {"type": "http", "scheme": "bearer", "description": "from /api/agent-auth/token"},
                "requestSignature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Signature",
                    "description": "an agent's signature over the request (RFC 9421), with the headers Signature-Input,"
                    " Content-Digest and Aitp-Audience; docs/agents.md has the profile",
                },
                "enrollmentToken": {"type": "http", "scheme": "bearer", "description": "from /api/registry/enroll"},
            },
        },
    }


def _shapes(table: Iterable[Endpoint]) -> tuple[list[Any], list[Any]]:
    """Return the shapes of bodies and those of responses, each once."""
    bodies = dict.fromkeys(endpoint.body for endpoint in table if endpoint.body is not None)
    forms = (form for endpoint in table for response in endpoint.responses.values() for form in _forms(response))
    responses = dict.fromkeys(form for form in forms if form is not None and not isinstance(form, str))
    return list(bodies), list(responses)


def _operation(endpoint: Endpoint, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(endpoint.name),
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "parameters": _parameters(endpoint),
        "responses": _responses(endpoint, schemas),
        "security": _security(endpoint),
    }
    if endpoint.scope is not None:
        operation["x-required-scope"] = str(endpoint.scope)
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[endpoint.body]}},
        }
    return operation


def _operation_id(name: str) -> str:
    method, path = name.split(" ")
    words = re.findall(r"[A-Za-z0-9]+", path.replace("/api/", "/").replace("/.", "/dot-"))
    return "_".join([method.lower(), *words]).replace("-", "_")


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    shown = [
        {"name": param.name, "in": param.place, "required": param.required, "description": param.about}
        | {"schema": dict(param.kind)}
        for param in endpoint.params
    ]
    if endpoint.query is not None:
        shown += parameters_of(endpoint.query)
    if endpoint.idempotent:
        shown.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "runs the effect once per caller, key and body",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            }
        )
    return shown


def _responses(endpoint: Endpoint, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for status, codes in _codes_by_status(endpoint).items():
        shown[str(status)] = {
            "description": ", ".join(sorted(codes)),
            "content": {"application/json": {"schema": _refusal(codes)}},
        }
    for status, response in endpoint.responses.items():
        shown[str(status)] = _success(response, schemas)
        if endpoint.leads_to and 200 <= status < 300:
            shown[str(status)]["links"] = {_operation_id(link.to): _link(link) for link in endpoint.leads_to}
    return dict(sorted(shown.items()))


def _refusal(codes: Iterable[str]) -> dict[str, Any]:
    return {"allOf": [{"$ref": "#/components/schemas/Error"}, {"properties": {"code": {"enum": sorted(codes)}}}]}


def _link(link: Link) -> dict[str, Any]:
    shown: dict[str, Any] = {"operationId": _operation_id(link.to)}
    if link.takes:
        shown["parameters"] = dict(link.takes)
    if link.body is not None:
        shown["requestBody"] = link.body
    return shown


def _success(response: Any, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    if response is None:
        return {"description": "done"}
    shapes = [schemas[shape] for shape in _forms(response) if not isinstance(shape, str)]
    content: dict[str, Any] = {
        shape: {"schema": {"type": "string"}} for shape in _forms(response) if isinstance(shape, str)
    }
    if shapes:
        content["application/json"] = {"schema": shapes[0] if len(shapes) == 1 else {"anyOf": shapes}}
    return {"description": "done", "content": content}


def _forms(response: Any) -> tuple[Any, ...]:
    return response if isinstance(response, tuple) else (response,)


def _codes_by_status(endpoint: Endpoint) -> dict[int, set[str]]:
    codes: dict[int, set[str]] = {}
    for error in (*EVERYWHERE, *errors_by_kind(endpoint), *endpoint.errors):
        codes.setdefault(error.status, set()).add(error.code)
    return codes


def errors_by_kind(endpoint: Endpoint) -> list[type[AppError]]:
    """Return the errors that come from being gated, limited, idempotent, filtered, a list, or given a body or an id."""
    rules: list[tuple[bool, tuple[type[AppError], ...]]] = [
        (
            endpoint.gated,
            (
                errors.InvalidApiKey,
                errors.ApiKeyExpired,
                errors.ApiKeyRevoked,
                errors.ServerMisconfigured,
                errors.AgentTokenInvalid,
                errors.OriginNotAllowed,
            ),
        ),
        (endpoint.scope is not None, (errors.ScopeMissing,)),
        (endpoint.signable, (errors.SignatureInvalid, errors.AgentNotActive, errors.AgentContained)),
        (endpoint.limited_by is not Bucket.EXEMPT, (errors.RateLimited,)),
        (
            endpoint.idempotent,
            (errors.IdempotencyKeyInvalid, errors.IdempotencyInFlight, errors.IdempotencyKeyReused),
        ),
        (
            endpoint.body is not None,
            (errors.BodyInvalid, errors.PayloadTooLarge, errors.EncodingUnsupported),
        ),
        (endpoint.method != "GET", (errors.Conflict,)),
        ("{" in endpoint.path, (errors.NotFound,)),
        (bool(endpoint.uuids), (errors.IdInvalid,)),
        (endpoint.query is not None, (errors.FilterInvalid,)),
        (endpoint.is_list, (errors.OffsetTooLarge,)),
    ]
    return [error for applies, listed in rules if applies for error in listed]


def _security(endpoint: Endpoint) -> list[dict[str, list[str]]]:
    schemes = {Gate.ENROLLMENT_TOKEN: "enrollmentToken", Gate.API_KEY: "apiKey", Gate.CREDENTIAL: "apiKey"}
    if endpoint.gate not in schemes:
        return []
    names = [schemes[endpoint.gate]]
    if endpoint.signable or endpoint.gate is Gate.CREDENTIAL:
        names.append("agentToken")
    if endpoint.signable:
        names.append("requestSignature")
    return [{name: []} for name in names]
