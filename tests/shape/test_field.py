"""Each row of the field report keeps a test of its own, nearly all of them under tests/field."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [ROOT / "tests", ROOT / "client" / "tests", ROOT / "conformance" / "tests"]
ROWS = {*map(str, range(1, 43)), *(f"A{number}" for number in range(1, 21))}


def rows_named() -> Iterator[str]:
    """Yield the rows that tests name in the first lines of their docstrings, as in `Rows 4 and A1: …`."""
    for file in (file for folder in FOLDERS for file in folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                first = (ast.get_docstring(node) or "").partition("\n")[0].partition(":")[0]
                if first.startswith("Row"):
                    yield from re.findall(r"\bA?\d+\b", first)


def test_every_row_has_a_test() -> None:
    assert ROWS - set(rows_named()) == set()
    assert set(rows_named()) - ROWS == set()
