"""Helpers: a report, the items of an iterator, and a client of a scripted server."""

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
    items: list[Row] = []
    async for row in rows:
        items.append(row)
        if len(items) == at_most:
            break
    return items


def handshake_report(session_id: str, run_id: str) -> dict[str, Any]:
    """Return one side's report of a handshake with a token."""
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
    """Yield a client, and its server that answers with `behave`."""
    async with receiver(behave) as upstream:
        url = f"http://127.0.0.1:{upstream.port}/under/a/path/"
        async with ControlPlane(url, API_KEY, timeouts=timeouts, retries=EAGER) as client:
            yield client, upstream
