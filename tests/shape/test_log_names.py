"""A log event has a stable name, lower case words joined by underscores, and a row in docs/operations.md."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rendered import DOCS

SERVER = Path(__file__).resolve().parents[2] / "src" / "aitp_cp"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def names_in(file: Path) -> Iterator[str]:
    """Yield the event of every call like `log.info(...)`, `log.log(level, ...)` or `log_at[level](...)`."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and (event := event_of(node)) is not None:
            yield "".join(part_of(part) for part in getattr(event, "values", [event]))


def event_of(call: ast.Call) -> ast.expr | None:
    function, place = call.func, 0
    if isinstance(function, ast.Subscript):
        return call.args[0] if getattr(function.value, "id", "") == "log_at" else None
    if not isinstance(function, ast.Attribute):
        return None
    logger = getattr(function.value, "id", "") or getattr(function.value, "attr", "")
    if not logger.endswith(("log", "logger")):
        return None
    if function.attr == "log":
        place = 1
    elif function.attr not in LEVELS:
        return None
    return call.args[place] if len(call.args) > place else None


def part_of(part: ast.expr) -> str:
    """Return the text of a part; the two that are composed are of group commits, and the line of a request."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    return "ingest" if isinstance(part, ast.FormattedValue) else "request"


NAMES = sorted({name for file in sorted(SERVER.rglob("*.py")) for name in names_in(file)})


def test_every_log_event_has_a_stable_name() -> None:
    assert len(NAMES) > 50
    assert [name for name in NAMES if not NAME.fullmatch(name)] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_log_event_is_explained(name: str) -> None:
    """Whoever reads only the log finds what a line means and what to do."""
    section = (DOCS / "operations.md").read_text().split("### Log lines")[1].split("\n#")[0]
    first_cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    assert any(f"`{name}`" in cell for cell in first_cells), "a row in docs/operations.md, Log lines"
