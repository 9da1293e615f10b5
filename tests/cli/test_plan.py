"""aitp-cp plan: the model behind docs/capacity.md."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from aitp_cp.cli.capacity import BUSY, Load, needs
from aitp_cp.cli.plan import advise, size
from tests.cli.support import run, said

PAGE = Path(__file__).resolve().parents[2] / "docs" / "capacity.md"
SMALL = Load(agents=1000, events_per_second=10, polling_peers=1000)


@pytest.mark.parametrize("field", ["events_per_second", "streams", "polling_peers", "agents", "reads_per_second"])
def test_more_load_needs_more(field: str) -> None:
    more = needs(replace(SMALL, **{field: 50 * getattr(SMALL, field)}))
    less = needs(SMALL)
    assert more.process_cores > less.process_cores
    assert more.database_cores >= less.database_cores


def test_processes_are_added_until_none_is_too_busy() -> None:
    need = needs(replace(SMALL, events_per_second=9000, streams=100))
    assert need.processes > SMALL.replicas
    assert need.process_cores / need.processes <= BUSY
    fixed = needs(replace(SMALL, events_per_second=9000, streams=100), fixed=True)
    assert fixed.processes == SMALL.replicas
    assert fixed.process_cores < need.process_cores  # each process follows the whole log


@pytest.mark.parametrize(
    ("load", "advice"),
    [
        (replace(SMALL, events_per_second=9000), "One log takes"),
        (replace(SMALL, events_per_second=9000, streams=100), "would be busier than 70%"),
        (replace(SMALL, replicas=8), "raise max_connections"),
        (replace(SMALL, polling_peers=100_000), "a cache in front"),
        (replace(SMALL, streams=2000), "MAX_SSE_CONNECTIONS"),
        (replace(SMALL, events_per_second=5000), "AUDIT_EVENTS_TTL_DAYS"),
    ],
)
def test_each_limit_has_a_remedy(load: Load, advice: str) -> None:
    assert [sentence for sentence in advise(load, needs(load)) if advice in sentence]


def test_no_limit_no_advice() -> None:
    assert advise(SMALL, needs(SMALL)) == []


@pytest.mark.parametrize("command", re.findall(r"^aitp-cp (plan .*)$", PAGE.read_text(), re.MULTILINE))
def test_the_commands_of_the_page(command: str) -> None:
    done = run(*shlex.split(command))
    assert done.returncode == 0
    assert "cores, control plane" in said(done)


def test_a_million_agents_are_told_about_the_list_and_the_disk() -> None:
    told = said(run("plan", "--agents", "1000000", "--events-per-second", "2800"))
    assert "put a cache in front" in told
    assert "AUDIT_EVENTS_TTL_DAYS" in told


@pytest.mark.parametrize(("amount", "text"), [(12, "12 B"), (1.5e6, "1.5 MB"), (2.34e12, "2.34 TB")])
def test_sizes(amount: float, text: str) -> None:
    assert size(amount) == text
