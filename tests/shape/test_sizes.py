"""The house's sizes: a file or function that outgrows them is split by meaning."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [ROOT / "src", ROOT / "client" / "src", ROOT / "conformance" / "src"]
FILES = sorted(file for source in SOURCES for file in source.rglob("*.py"))
# Here what a command needs is imported when it is called, so that `--help` loads nothing.
COMMANDS = {"cli", "commands", "command.py"}
NESTING = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try)
MAX_FILE, MAX_BODY, MAX_ARGUMENTS, MAX_NESTING = 400, 50, 6, 3

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(file: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, Function):
            yield node


def depth(node: ast.AST) -> int:
    return max((depth(child) + is_deeper(node, child) for child in ast.iter_child_nodes(node)), default=0)


def is_deeper(node: ast.AST, child: ast.AST) -> bool:
    """An `elif` is an If in the orelse of an If, yet no deeper to the reader."""
    is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
    return isinstance(child, NESTING) and not is_elif


def arguments(function: Function) -> int:
    spec = function.args
    named = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs]
    return len([argument for argument in named if argument.arg not in {"self", "cls"}])


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_stays_within_the_house_sizes(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= MAX_FILE
    for function in functions(file):
        place = f"{file.name}:{function.lineno} {function.name}"
        assert (function.end_lineno or 0) - function.body[0].lineno < MAX_BODY, place
        assert arguments(function) <= MAX_ARGUMENTS or "settings.py" in place, place
        assert depth(function) <= MAX_NESTING, place


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_stand_at_the_top_outside_the_commands(file: Path) -> None:
    if COMMANDS & set(file.parts) or "versions" in file.parts:
        return
    for function in functions(file):
        inner = [node for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not inner, f"{file.name}:{function.name}"


def test_most_files_are_small() -> None:
    sizes = sorted(len(file.read_text().splitlines()) for file in FILES)
    assert sizes[len(sizes) // 2] <= 90
    assert sizes[len(sizes) * 9 // 10] <= 250
