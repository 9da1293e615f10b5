"""The picture of the tree: the package floor by floor, as the import contract has them, and what stands around it."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "aitp_cp"
AROUND = {
    "client": "The distribution aitp-cp-client, with sources, tests and README of its own:",
    "client/src/aitp_cp_client": "the typed client",
    "client/src/aitp_cp_client/wire": "the wire rules that the server shares",
    "client/src/aitp_cp_client/commands": "the command `aitp-cp`; it loads the server's and the kit's commands too",
    "conformance": "The distribution aitp-cp-conformance, likewise: the contract as checks against any deployment.",
    "tests": "One folder per room, mirroring the package, and besides:",
    "tests/flows": "whole stories through the real command: drains, outages, workers, the README's examples",
    "tests/field": "what went wrong in the field, by the numbered rows of a report; docs/decisions name them too",
    "tests/browser": "the console in a real browser",
    "tests/migrations": "databases of older versions, adopted, upgraded and rolled back",
    "tests/plans": "every list's query keeps its index on a large log",
    "tests/torture": "processes, database and clients under random faults, then a reckoning",
    "tests/shape": "sizes of files and functions; documents against the code",
    "tests/deploy": "what is deployed: image, manifests, unit, alert rules, dashboard, backup",
    "tests/support": "a Postgres per run, a database per test, agents, proxies, receivers",
    "bench": "The benchmark.",
    "examples": "Programs that the README's stories run.",
    "docs": "These pages; decisions, one a page, in decisions/.",
    "deploy": "Kubernetes, systemd, Prometheus, Grafana.",
}


def picture() -> str:
    return "\n".join(["```", *_aligned(_package()), "", *_aligned(_around()), "```"])


def floors() -> list[list[str]]:
    """The modules of the package from the top floor to the lowest; those of one floor do not know each other."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers: list[str] = contracts[0]["layers"]
    return [[name.strip(" ()") for name in layer.split("|")] for layer in layers]


def _package() -> Iterator[tuple[str, str]]:
    yield "src/aitp_cp/", ""
    for number, floor in enumerate(floors()):
        if number:
            yield "", ""
        for name in floor:
            folder = (PACKAGE / name).is_dir()
            file = PACKAGE / name / "__init__.py" if folder else PACKAGE / f"{name}.py"
            yield f"  {name}/" if folder else f"  {name}.py", _about(file)


def _around() -> Iterator[tuple[str, str]]:
    for path, about in AROUND.items():
        assert (ROOT / path).is_dir(), path
        above = [other for other in AROUND if path.startswith(f"{other}/")]
        yield f"{'  ' * len(above)}{path.removeprefix(above[-1] + '/') if above else path}/", about


def _about(file: Path) -> str:
    """The first line of its docstring."""
    return (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")[0]


def _aligned(rows: Iterator[tuple[str, str]]) -> list[str]:
    return [f"{name:<16} {about}".rstrip() for name, about in rows]
