"""Who holds which version of the signed list, as far as clients have shown it (contract, section 21)."""

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from aitp_cp.db import Connection
from aitp_cp.errors import RETRIABLE
from aitp_cp.runtime import Runtime

Kind = Literal["agent", "address"]

# Clients in memory until the next write, the oldest dropped first: about 3 MB. The same for rows in the table.
MAX_NOTED = 10_000
MAX_KEPT = 100_000
KEPT = timedelta(days=7)
NONE = -1  # below every version

# A restarted client may show an older version than before; then it held the newer one all the same.
WRITE = """
INSERT INTO list_holders AS stored (kind, client, holds, sent, seen_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::timestamptz[])
    AS new (kind, client, holds, sent, seen_at)
ORDER BY 1, 2
ON CONFLICT (kind, client) DO UPDATE
SET holds = greatest(stored.holds, excluded.holds), sent = greatest(stored.sent, excluded.sent),
    seen_at = greatest(stored.seen_at, excluded.seen_at)
"""

FORGET = """
DELETE FROM list_holders WHERE (kind, client) IN (
    SELECT kind, client FROM list_holders
    WHERE seen_at < $1 OR seen_at < (SELECT seen_at FROM list_holders ORDER BY seen_at DESC OFFSET $2 - 1 LIMIT 1)
    ORDER BY kind, client FOR UPDATE SKIP LOCKED
)
"""

NEWEST = "SELECT kind, client, holds, sent, seen_at FROM list_holders ORDER BY seen_at DESC, kind, client LIMIT $1"
AGENTS = """
SELECT kind, client, holds, sent, seen_at FROM list_holders WHERE kind = 'agent' AND client = ANY($1::text[])
"""


class Holder(msgspec.Struct):
    """A client, the newest version that it has shown to hold, and the newest one it was sent; `NONE` for none."""

    kind: Kind
    client: str
    holds: int
    sent: int
    seen_at: datetime


class Holders:
    """Keeps what clients show in memory until it is written down, every ten seconds."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._noted: OrderedDict[tuple[Kind, str], Holder] = OrderedDict()

    def note(self, kind: Kind, client: str, *, holds: int = NONE, sent: int = NONE) -> None:
        """Note a request for the list."""
        key = (kind, client)
        known = self._noted.get(key)
        if known is None:
            if len(self._noted) >= MAX_NOTED:
                self._noted.popitem(last=False)
            self._noted[key] = Holder(kind, client, holds, sent, self._rt.clock())
            return
        known.holds, known.sent, known.seen_at = max(known.holds, holds), max(known.sent, sent), self._rt.clock()

    async def flush(self) -> None:
        """Write down what was noted, and delete what is too old; raises `DatabaseUnavailable`."""
        noted, self._noted = self._noted, OrderedDict()
        try:
            async with self._rt.db.transaction() as conn:
                if noted:
                    await write(conn, list(noted.values()))
                await conn.execute(FORGET, self._rt.clock() - KEPT, MAX_KEPT)
        except BaseException:
            for key, holder in noted.items():  # the next flush writes it
                if len(self._noted) < MAX_NOTED:
                    self._noted.setdefault(key, holder)
            raise

    async def stop(self) -> None:
        """Write down what was noted, if the database is there."""
        with suppress(*RETRIABLE):
            await self.flush()


async def write(conn: Connection, holders: Sequence[Holder]) -> None:
    columns = zip(*map(msgspec.structs.astuple, holders), strict=True)
    await conn.execute(WRITE, *map(list, columns))


async def newest(conn: Connection, limit: int) -> list[Holder]:
    """Return the clients seen last."""
    return [Holder(**row) for row in await conn.fetch(NEWEST, limit)]


async def of_agents(conn: Connection, aids: Sequence[str]) -> dict[str, Holder]:
    """Return what each of these agents has shown with its token, by AID."""
    return {row["client"]: Holder(**row) for row in await conn.fetch(AGENTS, aids)}
