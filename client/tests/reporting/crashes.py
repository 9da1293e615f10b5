"""Kill reporting agents at random moments: `python -m client.tests.reporting.crashes URL KEY SPOOL KILLS SEED`.

Prints as JSON what each agent was told to be safe: the greatest number of its events, or -1.
"""

import json
import os
import random
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from aitp_cp_client import Limits, ThreadReporter

RUN = "crashes"
AT_ONCE = 2  # agents that share the spool
RANGE = 1_000_000  # of numbers that one agent has for its events
LONGEST_LIFE_SECS = 0.12  # starting takes 10 to 20 ms, a batch about 10
LIMITS = Limits(linger_secs=0.005, first_wait_secs=0.01)


def agent(url: str, key: str, spool: str, *, first: int, told: int) -> None:
    """Report until killed, and write down which events are safe."""
    reporter = ThreadReporter(url, key, spool=spool, limits=LIMITS)
    n = first
    while True:
        for _ in range(random.randint(1, 20)):
            reporter.report("crash.test", run_id=RUN, payload={"n": n})
            n += 1
        if reporter.safe(10):
            os.write(told, b"%d\n" % (n - 1))
        time.sleep(random.uniform(0, 0.005))


def life(url: str, key: str, spool: str, *, first: int, longest: float = LONGEST_LIFE_SECS) -> int:
    """Return the last event that was safe when the agent was killed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        random.seed(first)
        agent(url, key, spool, first=first, told=write)
    os.close(write)
    time.sleep(random.uniform(0, longest))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(read, "rb") as told:
        lines = told.read().split()
    return int(lines[-1]) if lines else -1


def main(url: str, key: str, spool: str, kills: str, seed: str) -> None:
    random.seed(int(seed))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        lives = [pool.submit(life, url, key, spool, first=number * RANGE) for number in range(int(kills))]
        safe = [each.result() for each in lives]
    longest = LONGEST_LIFE_SECS
    while max(safe) < 0:  # a busy machine: nobody lived long enough to be told anything
        longest *= 2
        safe.append(life(url, key, spool, first=len(safe) * RANGE, longest=longest))
    with ThreadReporter(url, key, spool=spool, limits=LIMITS) as last:
        last.report("crash.test", run_id=RUN, payload={"n": len(safe) * RANGE})
        assert last.flush(120), last.counters
    print(json.dumps(safe))


if __name__ == "__main__":
    main(*sys.argv[1:])
