"""Reports that a client makes, and what it gets from its iterators."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import uuid4

from aitp_cp_client import ControlPlane, Retries, Timeouts
from tests.support.app import API_KEY
from tests.support.receiver import Answer, Behaviour, Receiver, receiver

Row = TypeVar("Row")

IMPATIENT = Timeouts(answer_secs=0.5, silence_secs=0.5)
EAGER = Retries(first_wait_secs=0.01)


async def collected(rows: AsyncIterator[Row], at_most: int | None = None) -> list[Row]:
    found: list[Row] = []
    async for row in rows:
        found.append(row)
        if len(found) == at_most:
            break
    return found


def handshake_report(session_id: str, run_id: str) -> dict[str, Any]:
    """One side's report of a handshake that gave it a token."""
    claims = {"jti": str(uuid4()), "iss": "aid:bob", "sub": "aid:alice", "grants": ["demo.echo"], "iat": 1779710400}
    return {
        "id": str(uuid4()),
        "type": "handshake.complete",
        "session_id": session_id,
        "run_id": run_id,
        "payload": {"tct": claims},
    }


@asynccontextmanager
async def answered(
    behave: Behaviour | Answer, timeouts: Timeouts | None = None
) -> AsyncIterator[tuple[ControlPlane, Receiver]]:
    """A client of a server that answers as the test decides."""
    async with receiver(behave) as there:
        url = f"http://127.0.0.1:{there.port}/under/a/path/"
        async with ControlPlane(url, API_KEY, timeouts=timeouts, retries=EAGER) as client:
            yield client, there
