"""Contract, section 14: metrics."""

import re
from collections.abc import Iterator

from aitp_cp_conformance import expect
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment

PREFIX = "aitp_control_plane_"
NAMES = {
    "agents_active": None,
    "agents_expired": None,
    "sessions_total": None,
    "webhook_deliveries": "status",
    "audit_events": "type",
    "db_up": None,
    "rate_limit_drops": "bucket",
    "webhook_circuit_breaker_open": "state",
    "admin_audit_insert_failures": None,
    "event_backlog_dropped": None,
    "sse_streams_open": None,
    "sse_streams_opened_total": None,
    "sse_streams_rejected_total": None,
    "events_dropped_total": None,
    "events_duplicate_total": None,
    "enroll_verification_failures": "code",
}
MAX_TYPES = 201  # 200 and `other`

_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: \S+)?")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Sample = tuple[str, dict[str, str], float]


async def scraped(cp: Deployment) -> str:
    response = await cp.scrape()
    expect.status(response, 200)
    return response.body.decode()


def samples(text: str) -> Iterator[Sample]:
    """Yield every sample of a scrape; raise `Broken` for any other line."""
    for line in text.split("\n"):  # a label may hold other line separators
        if not line or line.startswith("#"):
            continue
        match = _SAMPLE.fullmatch(line)
        expect.that(match, f"{line!r} is no sample")
        assert match is not None
        yield match[1], dict(_LABEL.findall(match[2] or "")), float(match[3])


@check("14", "the names are fixed")
async def names(cp: Deployment) -> None:
    text = await scraped(cp)
    declared = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE)) | {name for name, _, _ in samples(text)}
    # A family without samples has only its TYPE line, in which a counter may lack `_total`.
    missing = [name for name in NAMES if not {PREFIX + name, (PREFIX + name).removesuffix("_total")} & declared]
    expect.that(not missing, f"the scrape lacks {', '.join(missing)}")


@check("14", "the labels are fixed")
async def labels(cp: Deployment) -> None:
    for name, tags, _ in samples(await scraped(cp)):
        short = name.removeprefix(PREFIX)
        if short in NAMES:
            label = NAMES[short]
            expect.equal(set(tags), {label} if label else set(), f"the labels of {name}")


@check("14", "`db_up` is 1 while the database answers")
async def database_up(cp: Deployment) -> None:
    values = [value for name, _, value in samples(await scraped(cp)) if name == PREFIX + "db_up"]
    expect.equal(values, [1.0], "the value of db_up")


@check("14", "label values hold no `}`, and no value is NaN")
async def clean(cp: Deployment) -> None:
    for name, tags, value in samples(await scraped(cp)):
        expect.that(value == value, f"{name} is NaN")
        expect.that(not any("}" in text for text in tags.values()), f"{name} has a label value with a brace")


@check("14", "there are at most 200 `type` labels and `other`")
async def bounded_types(cp: Deployment) -> None:
    kinds = {tags.get("type") for name, tags, _ in samples(await scraped(cp)) if name == PREFIX + "audit_events"}
    expect.that(len(kinds) <= MAX_TYPES, f"audit_events has {len(kinds)} types")


@check("14", "HTTP latency is a histogram by route template, method and status class", extension=True)
async def latency(cp: Deployment) -> None:
    await cp.public.get("/api/health")
    text = await scraped(cp)
    histograms = re.findall(rf"^# TYPE ({PREFIX}http\w*) histogram", text, re.MULTILINE)
    expect.that(histograms, "no HTTP latency histogram")
    series = [tags for name, tags, _ in samples(text) if name == f"{histograms[0]}_count"]
    routes = {tags.get("route") for tags in series}
    expect.that("/api/health" in routes, "the latency of /api/health is not by its route")
    expect.that(cp.run not in str(routes), "a path that is no route is a label of its own")


@check("14", "metrics show no secret")
async def no_secrets(cp: Deployment) -> None:
    text = await scraped(cp)
    key = cp.options.api_key
    expect.that(PREFIX in text, "the scrape shows no metric of a control plane")
    expect.that(key is None or key not in text, "the metrics show the API key")
    expect.that("conformance-secret" not in text, "the metrics show a webhook's secret")
