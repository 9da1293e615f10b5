"""The Dockerfile's rules: locked packages, an ordinary user, a health check, nothing left to build with."""

import importlib.metadata
import re
from pathlib import Path

from packaging.requirements import Requirement

from aitp_cp.app import ENDPOINTS
from aitp_cp.cli import alive
from tests.support.rendered import ROOT

TEXT = (ROOT / "Dockerfile").read_text()
LINES = re.sub(r"\\\n\s*", "", TEXT).splitlines()
STAGES = [index for index, line in enumerate(LINES) if line.startswith("FROM ")]
LAST_STAGE = LINES[STAGES[-1] :]


def test_everything_is_installed_with_hashes_or_from_the_own_wheel() -> None:
    installs = [line for line in LINES if re.search(r"pip\b.* install ", line)]
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)


def test_the_last_stage_installs_nothing_and_runs_as_an_ordinary_user() -> None:
    assert not any("pip" in line for line in LAST_STAGE)
    (user,) = [line.split()[1] for line in LAST_STAGE if line.startswith("USER ")]
    assert user.split(":")[0].isdigit()
    assert int(user.split(":")[0]) > 0


def test_the_health_check_asks_a_route_that_needs_no_database() -> None:
    assert 'CMD ["python", "-m", "aitp_cp.cli.alive"]' in TEXT
    assert '"/api/livez"' in Path(alive.__file__).read_text()
    assert "/api/livez" in {endpoint.path for endpoint in ENDPOINTS}


def test_bases_are_slim_and_one_version() -> None:
    assert {LINES[index].split()[1] for index in STAGES} == {"python:3.12-slim"}


def test_the_build_backend_is_locked_with_all_it_needs() -> None:
    (names,) = re.findall(r"\^\(([a-z|-]+)\)==", TEXT)
    locked = (ROOT / "requirements-dev.lock").read_text()
    needed = {"hatchling"}
    for line in importlib.metadata.requires("hatchling") or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"python_version": "3.12"}):
            needed.add(requirement.name)
    assert needed <= set(names.split("|"))
    assert [name for name in names.split("|") if not re.search(rf"^{name}==", locked, re.MULTILINE)] == []


def test_the_context_holds_what_is_copied_and_no_more() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        word.removeprefix("./")
        for line in LINES
        if line.startswith("COPY ") and "--from=" not in line
        for word in line.split()[1:-1]
    }
    assert copied == allowed
    assert [name for name in copied if not (ROOT / name).exists()] == []
