"""The names that agents claim, for the AIDs of a page in one statement."""

from collections.abc import Iterable, Mapping

from aitp_cp.db import Connection
from aitp_cp.registry import store as registry


async def names_of(conn: Connection, aids: Iterable[str | None]) -> Mapping[str, str]:
    """Return the display names of those of the agents that are registered."""
    wanted = sorted({aid for aid in aids if aid})
    return await registry.names(conn, wanted) if wanted else {}
