"""What is swept, when it is due, and how much of it went."""

from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec

from aitp_cp.db import Connection

Sweep = Callable[[Connection, datetime, int], Awaitable[int]]


class Policy(msgspec.Struct, frozen=True):
    """One line per table: rows older than `days` go; `days` names a setting, None means past their own expiry."""

    table: str
    days: str | None
    sweep: Sweep
    count_due: Sweep


class Swept(msgspec.Struct, frozen=True):
    table: str
    rows: int
