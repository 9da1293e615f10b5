"""Advisory locks: one list with one order (`aitp_cp.db.locks`)."""

import ast
from collections.abc import Iterator
from pathlib import Path

from aitp_cp.db import locks
from aitp_cp.db.locks import Lock

SOURCE = Path(__file__).resolve().parents[2] / "src" / "aitp_cp"
THE_LIST = SOURCE / "db" / "locks.py"
LISTED = {name: value for name, value in vars(locks).items() if isinstance(value, Lock)}
# The migration's lock is a session's, so that it outlives the transactions of the revisions.
SESSION_LOCK = ("db/migrations/run.py", "SELECT pg_try_advisory_lock($1)")


def elsewhere() -> Iterator[tuple[str, ast.AST]]:
    for file in sorted(SOURCE.rglob("*.py")):
        if file != THE_LIST:
            yield from ((str(file.relative_to(SOURCE)), node) for node in ast.walk(ast.parse(file.read_text())))


def docstrings() -> set[str]:
    return {
        node.value.value
        for _, node in elsewhere()
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }


def test_a_lock_is_defined_in_the_list_alone() -> None:
    made = [
        (file, ast.unparse(node))
        for file, node in elsewhere()
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Lock"
    ]
    assert [call for call in made if call[1] not in {"asyncio.Lock()", "threading.Lock()"}] == []


def test_only_the_list_takes_advisory_locks() -> None:
    texts = [
        (file, node.value)
        for file, node in elsewhere()
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "advisory_" in node.value
    ]
    assert [text for text in texts if text[1] not in docstrings()] == [SESSION_LOCK]


def test_locks_have_a_key_each_and_the_log_comes_last() -> None:
    assert len({lock.key for lock in LISTED.values()}) == len(LISTED) >= 8
    assert max(LISTED.values(), key=lambda lock: lock.rank) == locks.LOG
    lines = THE_LIST.read_text().splitlines()
    for name in LISTED:
        [at] = [number for number, line in enumerate(lines) if line.startswith(f"{name} = ")]
        assert lines[at - 1].startswith("# "), f"{name} has no sentence"


def test_keys_are_those_of_the_previous_version() -> None:
    """Replicas of both versions run side by side during an upgrade."""
    assert {name: lock.key for name, lock in LISTED.items()} == {
        "MIGRATION": 4694481020131148802,
        "RETENTION": 4694481020131148800,
        "FOLDING": -244606603611864990,
        "ADOPTION": -8998660217460293959,
        "SETTLING": 831918526533073473,
        "CONTAINING": 4662389797358212319,
        "UNLISTING": 4319839548423692663,
        "WEBHOOK_CREATION": -1983212161614906647,
        "GRAPH": 677295522921282430,
        "LOG": 4694481020131148801,
    }
