"""The wall clock, injected everywhere so that a test can move it, and times as the API shows them."""

from collections.abc import Callable
from datetime import datetime

from aitp_cp_client.wire.times import EPOCH, iso, iso_or_none, now, truncate

__all__ = ["EPOCH", "Clock", "iso", "iso_or_none", "now", "truncate"]

Clock = Callable[[], datetime]
