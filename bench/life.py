"""From the start of the process to its readiness, and what it holds when nothing happens."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from bench.report import Row, Target
from bench.servers import Running, start

STARTS = 5
IDLE_SECS = 3.0


def measure(dsn: str, log: Path) -> Iterator[Row]:
    """On a schema at head, with a past."""
    starts, resident = [], 0.0
    for number in range(STARTS):
        process, seconds = start(dsn, log)
        starts.append(seconds)
        if number == STARTS - 1:
            time.sleep(IDLE_SECS)
            resident = Running(process.port, process.running.pid).resident_kib() / 1024
        process.terminate()
    yield Row("start to ready, schema at head", "s", statistics.median(starts), Target(at_most=1.5))
    yield Row("idle memory", "MiB", resident, Target(at_most=110))
