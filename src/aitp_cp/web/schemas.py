"""JSON schemas of structs: members that may be absent are optional without a default, all others required."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec.inspect import Field, StructType, Type, multi_type_info

from aitp_cp.web.query import described

Schema = dict[str, Any]

REFERENCE = "#/components/schemas/{name}"


def schemas_of(bodies: Iterable[Any], successes: Iterable[Any]) -> tuple[Mapping[Any, Schema], dict[str, Schema]]:
    """Return the schema of each shape, and the components that they refer to by name."""
    requests, responses = list(bodies), list(successes)
    shapes = [*requests, *(shape for shape in responses if shape not in requests)]
    schemas, components = msgspec.json.schema_components(shapes, ref_template=REFERENCE)
    for struct in _structs(multi_type_info(requests)):
        _describe(components[struct.cls.__name__], [field for field in struct.fields if field.required], struct.cls)
    for struct in _structs(multi_type_info(responses)):
        _describe(components[struct.cls.__name__], [field for field in struct.fields if _always_sent(struct, field)])
    return dict(zip(shapes, schemas, strict=True)), components


def parameters_of(query: type) -> list[Schema]:
    """Return the parameters of a query struct as OpenAPI describes them."""
    [_], components = msgspec.json.schema_components([query], ref_template="{name}")
    properties = components[query.__name__]["properties"]
    return [_parameter(field.encode_name, properties[field.encode_name], components) for field in described(query)]


def _parameter(name: str, schema: Schema, components: Mapping[str, Schema]) -> Schema:
    about = schema.pop("description")
    inner: Schema = next((kind for kind in schema.pop("anyOf", ()) if kind != {"type": "null"}), {})
    kind = {**inner, **schema}
    kind |= components.get(kind.pop("$ref", ""), {})
    kind.pop("title", None)
    if kind.get("default") is None:
        kind.pop("default", None)
    return {"name": name, "in": "query", "required": False, "description": about, "schema": kind}


def _describe(schema: Schema, required: Iterable[Field], request: type | None = None) -> None:
    """Set the required members; a request struct may add alternatives in `REQUIRED_ONE_OF`."""
    for member in schema["properties"].values():
        # Remove defaults: generated clients treat a member with a default as required.
        member.pop("default", None)
    schema["required"] = [field.encode_name for field in required]
    groups: tuple[tuple[str, ...], ...] = getattr(request, "REQUIRED_ONE_OF", ())
    if len(groups) == 1:
        schema["required"] += groups[0]
    elif groups:
        schema["oneOf"] = [{"required": list(group)} for group in groups]


def _always_sent(struct: StructType, field: Field) -> bool:
    """Return whether responses always hold the member: unset members and omitted defaults are absent."""
    has_default = field.default is not msgspec.NODEFAULT or field.default_factory is not msgspec.NODEFAULT
    omits_defaults = struct.cls.__struct_config__.omit_defaults
    return field.required or (has_default and not omits_defaults)


def _structs(types: Iterable[Type]) -> Iterator[StructType]:
    """Yield each struct within these types once."""
    waiting: list[Any] = list(types)
    seen: set[type] = set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, StructType):
            if node.cls in seen:
                continue
            seen.add(node.cls)
            yield node
        if isinstance(node, tuple):
            waiting += node
        elif isinstance(node, (Type, Field)):
            waiting += (getattr(node, name) for name in node.__struct_fields__)
