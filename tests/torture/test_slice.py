"""A slice of `make torture`: every kind of fault at least once, and nothing lost, duplicated or out of order."""

import os
import subprocess
import sys
from pathlib import Path

from tests.torture.faults import ON_POSTGRES, ON_REPLICAS

ROOT = Path(__file__).resolve().parents[2]
# Starting, recovering and checking make the run about three times as long; on a busy machine, far longer.
SECS = float(os.environ.get("TORTURE_SECS", "10"))
SEED = os.environ.get("TORTURE_SEED", "8")


def test_nothing_acknowledged_is_lost() -> None:
    command = [sys.executable, "-m", "tests.torture", f"--minutes={SECS / 60}", f"--seed={SEED}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        said, _ = running.communicate(timeout=SECS + 480)
    except subprocess.TimeoutExpired:
        running.terminate()  # it stops what it has started
        said, _ = running.communicate(timeout=60)
        raise AssertionError(said) from None
    assert running.returncode == 0, said
    assert said.startswith(f"seed {SEED},")
    assert [kind for kind in (*ON_REPLICAS, *ON_POSTGRES) if kind not in said] == []
