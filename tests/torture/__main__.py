"""`python -m tests.torture`: break everything for a while, then look whether anything acknowledged was lost."""

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.torture import report
from tests.torture.faults import Pace
from tests.torture.run import Outcome, Plan, run

# Below this length faults follow each other closely and end soon, so that each kind comes at least once.
SHORT_MINUTES = 3.0
CALM, BRISK = Pace(2.0, 8.0, 20.0), Pace(0.3, 0.8, 1.0)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="how long things are broken (default 20)")
    parser.add_argument("--seed", type=int, default=None, help="decides every fault and every client (default random)")
    parser.add_argument("--replicas", type=int, default=2, help="processes on the one database (default 2)")
    parser.add_argument("--rate", type=float, default=40.0, help="events a second, the rest in proportion (default 40)")
    parser.add_argument("--keep", type=Path, default=None, help="folder for logs and record, kept whatever happens")
    asked = parser.parse_args()
    if asked.keep and asked.keep.exists() and any(asked.keep.iterdir()):
        parser.error(f"{asked.keep} is not empty")
    return asked


async def interruptible(plan: Plan, folder: Path) -> Outcome:
    """SIGTERM ends everything that was started, as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run(plan, folder, lambda text: print(f"{time.strftime('%X')} {text}", file=sys.stderr, flush=True))


def main() -> int:
    asked = arguments()
    seed = random.randrange(2**32) if asked.seed is None else asked.seed
    print(f"seed {seed}, {asked.minutes:g} minutes, {asked.replicas} replicas, {asked.rate:g} events/s", flush=True)
    pace = BRISK if asked.minutes < SHORT_MINUTES else CALM
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="aitp-cp-torture-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # Postgres runs as another account when root starts it
    plan = Plan(seed, 60 * asked.minutes, asked.rate, asked.replicas, pace)
    done = asyncio.run(interruptible(plan, folder))
    print(f"\n{report.tables(*done)}")
    if done.findings:
        print(f"\n{report.items(done.findings)}\n\nthe logs and the record are in {folder}")
        return 1
    if asked.keep is None:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
