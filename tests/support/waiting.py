"""Waiting for what another process brings about."""

import time
from collections.abc import Callable
from typing import Any

PATIENCE_SECS = 20
PAUSE_SECS = 0.02


def eventually(is_so: Callable[[], Any]) -> Any:
    """What it gives, once that is true."""
    deadline = time.monotonic() + PATIENCE_SECS
    while not (found := is_so()):
        assert time.monotonic() < deadline
        time.sleep(PAUSE_SECS)
    return found
