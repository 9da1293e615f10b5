"""A control plane that a test scripts: it keeps what it accepts, each id once, as the log does."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from aitp_cp_client import Limits
from tests.support.receiver import Answer, Received, receiver

KEY = "a-key-of-the-reporter-tests"
MIB = 1024 * 1024
QUICK = Limits(memory_bytes=MIB, linger_secs=0.01, first_wait_secs=0.01, longest_wait_secs=0.05, answer_secs=0.5)
UNAVAILABLE = Answer(503, b'{"error":"no","code":"DATABASE_UNAVAILABLE"}')

Script = Callable[[list[dict[str, Any]]], Answer | None]
"""What to answer to a batch; None accepts it."""


class Sink:
    """`script` may be replaced at any time."""

    def __init__(self) -> None:
        self.url = ""
        self.batches: list[list[dict[str, Any]]] = []  # accepted
        self.requests: list[Received] = []
        self.script: Script = lambda _: None
        self.other: Callable[[Received], Answer | None] = lambda _: None  # looks first, at every request
        self._seen: set[str] = set()

    @property
    def numbers(self) -> list[int]:
        """The payloads' numbers, in the order of arrival."""
        return [event["payload"]["n"] for batch in self.batches for event in batch]

    def behave(self, received: Received) -> Answer:
        self.requests.append(received)
        if (other := self.other(received)) is not None:
            return other
        batch = msgspec.json.decode(received.body)
        response = self.script(batch)
        if response is None or response.status == 200:  # an answer that is lost was stored, too
            self.batches.append([event for event in batch if event["id"] not in self._seen])
            self._seen.update(event["id"] for event in batch)
        return response or accepted(len(batch))


def accepted(events: int, **changed: Any) -> Answer:
    counts = {"ingested": events, "inserted": events, "duplicates": 0, "dropped": 0, "errors": [], **changed}
    return Answer(body=msgspec.json.encode(counts))


@asynccontextmanager
async def sink() -> AsyncIterator[Sink]:
    one = Sink()
    async with receiver(one.behave) as there:
        one.url = f"http://127.0.0.1:{there.port}"
        yield one
