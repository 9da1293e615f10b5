"""What was measured, as a table for people and as a file for machines."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.load import Outcome

RESULTS = Path(__file__).with_name("results")
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
COLUMNS = ("what", "target", "measured", "p50 ms", "p99 ms", "CPU µs", "limit", "of limit", "")


@dataclass(frozen=True)
class Target:
    """What is wanted of a row; an absent bound is not judged."""

    rate: float | None = None
    p99_ms: float | None = None
    share: float | None = None
    at_most: float | None = None

    def text(self, unit: str) -> str:
        parts = [f"≥ {self.rate:,.0f} {unit}"] if self.rate else []
        parts += [f"≤ {self.at_most:g} {unit}"] if self.at_most else []
        parts += [f"p99 ≤ {self.p99_ms:g} ms"] if self.p99_ms else []
        parts += [f"≥ {self.share:.0%} of limit"] if self.share else []
        return ", ".join(parts)


NOTHING = Target()


@dataclass(frozen=True)
class Row:
    """One line of the table; `cpu_us` is the server's own CPU time per unit of work, `share` the ratio to the limit."""

    what: str
    unit: str
    value: float
    target: Target = NOTHING
    p50_ms: float | None = None
    p99_ms: float | None = None
    cpu_us: float | None = None
    limit: float | None = None
    refused: int = 0
    note: str = ""

    @property
    def share(self) -> float | None:
        return self.value / self.limit if self.limit else None

    @property
    def met(self) -> bool:
        wanted = self.target
        below = ((wanted.at_most, self.value), (wanted.p99_ms, self.p99_ms))
        above = ((wanted.rate, self.value), (wanted.share, self.share))
        return (
            not self.refused
            and all(bound is None or (value is not None and value <= bound) for bound, value in below)
            and all(bound is None or (value is not None and value >= bound) for bound, value in above)
        )

    def cells(self) -> tuple[str, ...]:
        return (
            self.what,
            self.target.text(self.unit),
            f"{_number(self.value)} {self.unit}",
            _number(self.p50_ms),
            _number(self.p99_ms),
            _number(self.cpu_us),
            _number(self.limit),
            f"{self.share:.0%}" if self.share else "",
            ", ".join(filter(None, [self._verdict(), self.note, f"{self.refused} refused" if self.refused else ""])),
        )

    def _verdict(self) -> str:
        return "" if self.target == NOTHING else "met" if self.met else "missed"


def http_row(
    what: str, outcome: Outcome, target: Target, cpu_secs: float, *, unit: str = "req/s", times: int = 1
) -> Row:
    """A row about requests, each of which carries `times` units of work."""
    done = max(1, len(outcome.latencies) * times)
    return Row(
        what=what,
        unit=unit,
        value=outcome.rate * times,
        target=target,
        p50_ms=outcome.percentile(0.50),
        p99_ms=outcome.percentile(0.99),
        cpu_us=1e6 * cpu_secs / done,
        refused=outcome.refused,
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def show(rows: Sequence[Row]) -> None:
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*row.cells())
    Console(width=170).print(table)


def page(rows: Sequence[Row]) -> str:
    return markdown(COLUMNS, [row.cells() for row in rows])


def write_page(name: str, table: str) -> None:
    """Put a table between its markers in the page."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = PAGE.read_text().partition(begin)
    _, _, after = rest.partition(end)
    PAGE.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}")


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """The table as the pages hold it."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *lines])


def save(name: str, content: Any) -> Path:
    """Keep the results of a day, with the facts of the machine."""
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    path = RESULTS / f"{now:%Y-%m-%d}{name}.json"
    path.write_text(json.dumps({"at": now.isoformat(), "machine": machine(), **content}, indent=1) + "\n")
    return path


def as_dicts(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [{**asdict(row), "share": row.share, "met": row.met} for row in rows]


def machine() -> dict[str, object]:
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = {line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")}
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpus": os.cpu_count(),
        "model": sorted(models),
        "memory_gib": round(memory / 2**30, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_before": os.getloadavg()[0],
    }
