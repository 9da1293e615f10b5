"""Tables of the documents that are made from the code; hand-written prose stands around their markers."""

import re
from collections.abc import Iterator
from typing import Any

from prometheus_client import Counter, Gauge, Histogram, Metric

from aitp_cp import errors
from aitp_cp.app import ENDPOINTS
from aitp_cp.errors import AppError
from aitp_cp.protocol.vocabulary import VOCABULARY
from aitp_cp.telemetry.metrics import Metrics
from aitp_cp.web.caller_reads import BUCKET
from aitp_cp.web.endpoint import Bucket, Endpoint, Gate
from aitp_cp.web.schemas import parameters_of

GATES = {Gate.OPEN: "none", Gate.ENROLLMENT_TOKEN: "enrollment token", Gate.CREDENTIAL: "any credential"}
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


def with_table(page: str, name: str, table: str) -> str:
    """The page with the text between the markers of `name` replaced."""
    begin, end = f"<!-- generated: {name} -->", "<!-- end -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    assert pattern.search(page), f"no markers for {name}"
    return pattern.sub(lambda _: f"{begin}\n{table}\n{end}", page, count=1)


def endpoints() -> str:
    lines = [
        "| method and path | needs | bucket | answers | codes of its own | |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *map(_endpoint, ENDPOINTS)])


def _endpoint(endpoint: Endpoint) -> str:
    bucket = "—" if endpoint.limited_by is Bucket.EXEMPT else f"`{endpoint.limited_by}`"
    needs = f"`{endpoint.scope}`" if endpoint.scope else GATES[endpoint.gate]
    if endpoint.bulk and endpoint.gated:
        bucket += f", `{BUCKET}`"
    codes = ", ".join(f"`{error.code}`" for error in endpoint.errors) or "—"
    statuses = ", ".join(map(str, endpoint.responses)) or "—"
    about = endpoint.summary + ("; takes `Idempotency-Key`" if endpoint.idempotent else "")
    return f"| `{endpoint.method} {endpoint.path}` | {needs} | {bucket} | {statuses} | {codes} | {about} |"


def parameters() -> str:
    """Return a row for each query parameter but those that every list takes."""
    lines = ["| endpoint | parameter | values | default | meaning |", "|---|---|---|---|---|"]
    for endpoint in ENDPOINTS:
        for parameter in parameters_of(endpoint.query) if endpoint.query else ():
            if parameter["name"] not in {"offset", "before"}:
                lines.append(_parameter(endpoint, parameter))
    return "\n".join(lines)


def _parameter(endpoint: Endpoint, parameter: dict[str, Any]) -> str:
    schema = parameter["schema"]
    if "maximum" in schema:
        values = f"{schema['minimum']} to {schema['maximum']}"
    elif "enum" in schema:
        values = " or ".join(f"`{value}`" for value in schema["enum"])
    else:
        values = schema.get("format", {"boolean": "`true` or `false`", "string": "text"}[schema["type"]])
    default = f"`{schema['default']}`".lower() if "default" in schema else "—"
    name, about = parameter["name"], parameter["description"]
    return f"| `{endpoint.name}` | `{name}` | {values} | {default} | {about} |"


def error_classes() -> list[type[AppError]]:
    found = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AppError)]
    return [kind for kind in found if kind is not AppError]


def error_codes() -> str:
    lines = ["| status | code | sentence, unless a better one is known |", "|---|---|---|"]
    classes = sorted(error_classes(), key=lambda kind: (kind.status, kind.code))
    return "\n".join([*lines, *(f"| {kind.status} | `{kind.code}` | {kind.sentence} |" for kind in classes)])


def metric_families() -> list[Metric]:
    return list(Metrics().registry.collect())


def metric_names() -> Iterator[str]:
    """Every name a scrape can show."""
    for family in metric_families():
        yield from (family.name + suffix for suffix in SUFFIXES.get(family.type, ("",)))


def event_types() -> str:
    lines = ["| type | emitted by | sent to webhooks | meaning or effect |", "|---|---|---|---|"]
    for name, kind in VOCABULARY.items():
        sent = {None: "—", name: "yes"}.get(kind.delivered_as, f"as `{kind.delivered_as}`")
        lines.append(f"| `{name}` | {kind.emitter} | {sent} | {kind.about} |")
    return "\n".join(lines)


def metrics() -> str:
    lines = ["| name | kind | labels | meaning |", "|---|---|---|---|"]
    labels_of = _labels()
    for family in metric_families():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in labels_of[family.name]) or "—"
        lines.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(lines)


def _labels() -> dict[str, tuple[str, ...]]:
    """The label names of each family: one without samples yet does not show them by itself."""
    collectors = [one for one in vars(Metrics()).values() if isinstance(one, Counter | Gauge | Histogram)]
    return {family.name: tuple(one._labelnames) for one in collectors for family in one.describe()}
