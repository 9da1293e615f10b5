"""An event type is declared once."""

import re
from pathlib import Path

import pytest

import aitp_cp
from aitp_cp.app import ENDPOINTS
from aitp_cp.ingest.service import PROJECTIONS
from aitp_cp.protocol.vocabulary import DELIVERABLE, UNKNOWN_TYPE, VOCABULARY, Target, types_of
from aitp_cp.web.openapi import document
from tests.support.rendered import DOCS

SOURCE = Path(aitp_cp.__file__).parent
MOST_FILES = 6


def files_naming(event_type: str) -> list[str]:
    """The files of the server that spell an event type out, and the generated page."""
    apart = {SOURCE / "client", SOURCE / "conformance"}
    code = [file for file in SOURCE.rglob("*.py") if not apart & set(file.parents)]
    quoted = re.compile(rf"[\"`]{re.escape(event_type)}[\"`]")
    return [file.name for file in (*code, DOCS / "events.md") if quoted.search(file.read_text())]


# `unknown` is an ordinary word, which other rooms use for other things.
@pytest.mark.parametrize("event_type", [name for name in VOCABULARY if name != UNKNOWN_TYPE])
def test_an_event_type_is_added_in_six_files_or_fewer(event_type: str) -> None:
    """Those that spell it out, and one test of what it does."""
    naming = files_naming(event_type)
    assert "vocabulary.py" in naming
    assert "events.md" in naming
    assert len(naming) + 1 <= MOST_FILES, naming


def test_every_projection_is_registered_for_its_types() -> None:
    """A target without a projection would leave its types without effect."""
    assert {projection.types for projection in PROJECTIONS} == {types_of(target) for target in Target}


def test_openapi_closes_the_types_of_a_webhook() -> None:
    schemas = document(ENDPOINTS, "test")["components"]["schemas"]
    for name in ("NewWebhook", "WebhookPatch"):
        assert f"'enum': {sorted(DELIVERABLE)}" in str(schemas[name]["properties"]["events"])
