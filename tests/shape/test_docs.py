"""What the code names, the documents name, and the reverse."""

import re
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import asyncpg
import pytest

from aitp_cp.accounts.guesses import SUBJECT as LOGIN_SUBJECT
from aitp_cp.app import ENDPOINTS
from aitp_cp.cli.examination import SUBJECTS
from aitp_cp.retention.service import POLICIES
from aitp_cp.settings import Settings
from aitp_cp.web.caller_reads import BUCKET as CALLER_READS
from aitp_cp.web.endpoint import Bucket
from aitp_cp.web.openapi import EVERYWHERE, errors_by_kind
from aitp_cp_client import errors as client_errors
from aitp_cp_client.commands import connection
from aitp_cp_conformance.model import SECTIONS
from tests.support import tables
from tests.support.rendered import DOCS, ROOT, rendered

PAGES = sorted([ROOT / "README.md", *DOCS.glob("*.md")])
SETTINGS = {name.upper() for name in Settings.model_fields}
CODES = {kind.code for kind in tables.error_classes()}
CLIENT = {value for name, value in vars(client_errors).items() if name.isupper()}
VARIABLES = {connection.URL, connection.KEY, f"{connection.KEY}_FILE"}
METRICS = set(tables.metric_names())
FAMILIES = {family.name for family in tables.metric_families()}

# Names that the pages speak of and that are neither.
FOREIGN = {
    "NAME_FILE",
    "POSTGRES_PASSWORD",
    "GRAFANA_PASSWORD",
    "RESTORED_URL",
    "RAILWAY_DEPLOYMENT_DRAINING_SECONDS",
    "RAILWAY_DEPLOYMENT_OVERLAP_SECONDS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "TORTURE_SECS",
    "TORTURE_SEED",
    "OPENAPI_CASES",
    "OPENAPI_SEED",
}

COLUMNS = """
SELECT c.relname, a.attname FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
"""


def names_in_code_style(text: str) -> Iterator[str]:
    for span in re.findall(r"`([^`\n]+)`", text):
        yield from re.findall(r"(?<![\w/%$-])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?!\w)", span)


def prose(page: str) -> str:
    """The page without its generated table."""
    return re.sub(r"<!-- generated: .*?<!-- end -->", "", (DOCS / page).read_text(), flags=re.DOTALL)


def test_generated_files_are_up_to_date() -> None:
    for path, text in rendered().items():
        assert path.read_text() == text, f"{path.name}: run `make docs`"


def test_every_setting_has_a_sentence() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_every_dependency_is_justified() -> None:
    page = (DOCS / "decisions" / "0001-dependencies.md").read_text()
    names = set()
    for folder in (ROOT, ROOT / "client", ROOT / "conformance"):
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        extras = project.get("optional-dependencies", {}).values()
        names |= {line.split(">=")[0] for line in chain(project["dependencies"], *extras)}
    assert sorted(name for name in names if name not in page) == []


def test_every_setting_is_on_its_page() -> None:
    page = (DOCS / "settings.md").read_text()
    assert sorted(name for name in SETTINGS if f"| `{name}` |" not in page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_upper_case_names_are_settings_or_codes(page: Path) -> None:
    known = SETTINGS | {f"{name}_FILE" for name in SETTINGS} | CODES | CLIENT | VARIABLES | FOREIGN
    assert sorted(set(names_in_code_style(page.read_text())) - known) == []


def test_every_error_code_has_a_remedy() -> None:
    explained = set(re.findall(r"`([A-Z_0-9]+)`", prose("errors.md").split("## What to do")[1]))
    assert sorted(CODES - explained) == []


def test_every_code_an_endpoint_declares_is_on_the_api_page() -> None:
    page = (DOCS / "api.md").read_text()
    for endpoint in ENDPOINTS:
        assert f"| `{endpoint.method} {endpoint.path}` |" in page
        assert all(f"`{error.code}`" in page for error in endpoint.errors), endpoint.path


def test_an_endpoint_declares_only_codes_of_its_own() -> None:
    for endpoint in ENDPOINTS:
        assert not {*endpoint.errors} & {*EVERYWHERE, *errors_by_kind(endpoint)}, endpoint.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_in_the_pages_are_routes(page: Path) -> None:
    patterns = [re.compile(re.sub(r"\{\w+\}", "[^/]+", endpoint.path)) for endpoint in ENDPOINTS]
    spoken = re.findall(
        r"(?:GET |POST |PUT |PATCH |DELETE |[` ])(/(?:api|\.well-known)/[^\s`?\"')]+)", page.read_text()
    )
    paths = [path for path in spoken if not path.endswith("/")]
    assert [path for path in paths if not any(pattern.fullmatch(path) for pattern in patterns)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_metrics_in_the_pages_exist(page: Path) -> None:
    spoken = set(re.findall(r"aitp_control_plane_\w+", page.read_text()))
    assert sorted(spoken - METRICS - FAMILIES) == []


def test_every_metric_is_on_its_page() -> None:
    shown = set(re.findall(r"^\| `(aitp_control_plane_\w+)` \|", (DOCS / "metrics.md").read_text(), re.MULTILINE))
    missing = FAMILIES - {name.removesuffix("_total") for name in shown} - shown
    assert sorted(missing) == []


@pytest.mark.anyio
async def test_the_data_model_is_the_schema(database_url: str) -> None:
    conn = await asyncpg.connect(database_url)
    try:
        schema = {(table, column) for table, column in await conn.fetch(COLUMNS)}
    finally:
        await conn.close()
    assert sorted(set(documented_columns()) ^ schema) == []


def documented_columns() -> Iterator[tuple[str, str]]:
    for section in (DOCS / "data-model.md").read_text().split("\n## ")[1:]:
        table = section.split("\n", 1)[0].strip()
        for cell in re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE):
            yield from ((table, column) for column in re.findall(r"`(\w+)`", cell))


def test_the_runbook_has_every_row_of_check_every_bucket_and_every_swept_table() -> None:
    named = [subject for subject, _ in SUBJECTS]
    named += [bucket for bucket in Bucket if bucket is not Bucket.EXEMPT] + [LOGIN_SUBJECT, CALLER_READS]
    named += [policy.table for policy in POLICIES]
    page = (DOCS / "operations.md").read_text()
    assert [name for name in named if f"\n| `{name}`" not in page] == []


def test_each_section_of_the_contract_has_a_place() -> None:
    section = (DOCS / "architecture.md").read_text().split("## Where the contract lives")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| (\d+ [^|]+) \| ([^|]+) \|$", section, re.MULTILINE))
    assert {f"{number} {title}" for number, title in SECTIONS.items()} <= {*rows}
    places = re.findall(r"`([\w/.]+)`", " ".join(rows.values()))
    assert [name for name in places if not any((base / name).exists() for base in (ROOT, ROOT / "src/aitp_cp"))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", re.sub(r"\s+", " ", page.read_text())):
        file, _, anchor = target.partition("#")
        goal = (page.parent / file) if file else page
        assert goal.exists(), target
        assert not anchor or anchor in anchors(goal), target


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_every_page_can_be_found() -> None:
    links = {link for page in PAGES for link in re.findall(r"\]\((?:docs/)?([\w-]+\.md)", page.read_text())}
    assert sorted({page.name for page in DOCS.glob("*.md")} - links) == []
