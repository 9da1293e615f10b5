"""What is swept, and when it is due."""

from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec

from aitp_cp.db import Connection

Step = Callable[[Connection, datetime, int], Awaitable[int]]


class Policy(msgspec.Struct, frozen=True):
    """Rows of `table` older than `days` go; `days` names a setting, None means past their own expiry.

    `delete` and `count` take a connection, the time before which rows are due, and a limit.
    """

    table: str
    days: str | None
    delete: Step
    count: Step
