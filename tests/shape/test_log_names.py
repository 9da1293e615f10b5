"""A log event has a stable name: lower case words joined by underscores."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

SERVER = Path(__file__).resolve().parents[2] / "src" / "aitp_cp"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def names_in(file: Path) -> Iterator[str]:
    """Yield the first argument of every call like `log.info(...)`, and each part of one that is composed."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "log" and node.args):
            continue
        yield from (str(part.value) for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant))


def test_every_log_event_has_a_stable_name() -> None:
    names = {(file.name, name) for file in SERVER.rglob("*.py") for name in names_in(file)}
    assert len(names) > 30
    assert sorted(entry for entry in names if not re.fullmatch(r"_?[a-z][a-z0-9]*(_[a-z0-9]+)*", entry[1])) == []
