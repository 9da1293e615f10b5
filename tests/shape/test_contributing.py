"""The table of CONTRIBUTING.md: what a change touches is what the source says."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVER = ROOT / "src" / "aitp_cp"
ROWS = re.findall(r"^\| (an? [^|]+) \| ([^|]+) \| `([^`]+)` \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)


def mentioning(example: str) -> set[str]:
    """Return the server's source files that contain the example as a word; migrations are history."""
    word = re.compile(rf"(?<![\w.]){re.escape(example)}(?![\w/])")
    files = (file for file in SERVER.rglob("*.py") if "versions" not in file.parts)
    return {str(file.relative_to(ROOT)) for file in files if word.search(file.read_text())}


def test_the_table_has_a_row_for_each_kind() -> None:
    kinds = {kind.split(" ", 1)[1] for kind, _, _ in ROWS}
    assert kinds >= {"event type", "endpoint", "setting", "job", "column", "webhook type"}


@pytest.mark.parametrize(("kind", "touch", "example"), ROWS, ids=[row[0] for row in ROWS])
def test_a_row_names_every_file_of_its_example(kind: str, touch: str, example: str) -> None:
    named = set(re.findall(r"`([\w./-]+/[\w./-]+)`", touch))
    assert sorted(path for path in named if not (ROOT / path).exists()) == []
    assert mentioning(example) - named == set()
    assert mentioning(example), "the example is gone"
    assert len(named) <= 6, kind
