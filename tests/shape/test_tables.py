"""Tables belong to rooms: a statement names only tables of its own room (`aitp_cp.db.schema.TABLES`)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from aitp_cp.db.schema import SHARED, TABLES

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "aitp_cp"
# Revisions change what every room owns, and adoption looks at tables that may be another application's.
FILES = [file for file in sorted(SOURCE.rglob("*.py")) if "migrations" not in file.parts]

TABLE = f"({'|'.join(sorted(TABLES, key=len, reverse=True))})"
NAMED = re.compile(
    rf"\b(?:FROM|JOIN|INTO|UPDATE|TABLE|USING|OF|ONLY|,)\s+{TABLE}\b(?!\s*\()|'{TABLE}'::regclass|\b{TABLE}\.[a-z_]+"
)
IS_SQL = re.compile(r"\b(?:SELECT|INSERT INTO|UPDATE|DELETE FROM|FROM|JOIN|WHERE|::regclass)\b")
# A statement whose table is put in later; these two get it from the owner.
PUT_IN = re.compile(r"(?:(?<!DISTINCT )\bFROM|\bJOIN|\bINTO|\bUPDATE) (?:\{\w*\}|$)")
KITS = {"db", "tcts/rows.py"}
OWNERS_CALLS = {"Table", "OldRows"}


def room(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0]


def texts(tree: ast.AST) -> Iterator[str]:
    """Every string that is not a docstring."""
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            yield node.value


def named(tree: ast.AST) -> set[str]:
    """The tables that statements of the tree name, or that it gives to a kit."""
    found = {next(filter(None, match)) for text in texts(tree) if IS_SQL.search(text) for match in NAMED.findall(text)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Subscript):
            function = node.func.value if isinstance(node.func, ast.Subscript) else node.func
            if isinstance(function, ast.Name) and function.id in OWNERS_CALLS:
                values = [*node.args, *(keyword.value for keyword in node.keywords)]
                found |= {value.value for value in values if isinstance(value, ast.Constant)} & TABLES.keys()
    return found


FOUND = {file: named(ast.parse(file.read_text())) for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_statements_name_tables_of_their_own_room(file: Path) -> None:
    mine = room(file)
    foreign = {table for table in FOUND[file] if TABLES[table] != mine and (table, mine) not in SHARED}
    assert foreign == set(), f"owned by {[TABLES[table] for table in foreign]}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_no_statement_has_its_table_put_in_later(file: Path) -> None:
    place = str(file.relative_to(SOURCE))
    if room(file) not in KITS and place not in KITS:
        assert [text for text in texts(ast.parse(file.read_text())) if PUT_IN.search(text)] == []


# Kept empty for the previous version, which may still run (docs/decisions/0018).
RETIRED = {"invocation_counts", "invocation_progress"}


def test_each_table_is_named_by_its_owner() -> None:
    by_owner = {(table, room(file)) for file, tables in FOUND.items() for table in tables}
    assert {(table, owner) for table, owner in TABLES.items() if table not in RETIRED} - by_owner == set()
    assert SHARED.keys() - by_owner == set(), "an exception that nobody uses"


def test_the_data_model_shows_the_owners() -> None:
    for section in (ROOT / "docs" / "data-model.md").read_text().split("\n## ")[1:]:
        table, _, text = section.partition("\n")
        if table in TABLES:
            assert f"Room: `{TABLES[table]}`" in text, table
            for (shared, reader), _ in SHARED.items():
                assert shared != table or f"`{reader}`" in text, (table, reader)
