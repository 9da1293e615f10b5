"""Readers of the log and of the signed list: they hang up, come back to any replica, and go on where they were."""

import asyncio
import json
import random
import time
from contextlib import suppress
from typing import Any

import aitp

from tests.events.support import Reader
from tests.support.app import ENVIRONMENT
from tests.torture.clients import Clients, Request
from tests.torture.clocked import SKEW_SECS
from tests.torture.record import Reading, Record

OWN_AID = aitp.AitpAgent.from_seed(bytes.fromhex(ENVIRONMENT["CP_AID_SEED_HEX"])).aid
PAGE = 50
# Reading and signing may each be waited for; what was acknowledged earlier than this must be in a list.
LIST_SLACK_SECS = 50.0 + SKEW_SECS
# The limit REVOCATION_MAX_STALENESS_SECS, and what a replica that was frozen, or its clock, may add to it.
MOST_STALE_SECS = 330.0 + SKEW_SECS


def readings() -> list[Reading]:
    """Streams with and without filters, and one that pages through the history."""
    return [
        *(Reading(f"stream {n}", from_the_start=n % 2 == 0) for n in range(4)),
        Reading("stream of completions", {"type": "handshake.complete"}, from_the_start=True),
        Reading("stream of a run", {"runId": "r-1"}, from_the_start=True),
        Reading("slow stream", from_the_start=True),
        Reading("history", from_the_start=True),
    ]


class Readers:
    """One task per reading, until they are told that they have everything."""

    def __init__(self, clients: Clients, record: Record) -> None:
        self._clients = clients
        self._record = record
        self._calm = False
        self._tasks: list[asyncio.Task[None]] = []
        self._listed: dict[str, Any] = {}

    def start(self) -> None:
        for reading in self._record.readings:
            follow = self._page if reading.name == "history" else self._listen
            self._tasks.append(asyncio.create_task(self._forever(reading, follow), name=reading.name))
        self._tasks.append(asyncio.create_task(self._watch_the_list(), name="signed list"))

    def calm(self) -> None:
        """From now on nobody hangs up and nobody is slow."""
        self._calm = True

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for failure in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(failure, Exception):
                raise failure

    def _dice(self, name: str) -> random.Random:
        return random.Random(f"{self._record.seed}/{name}")

    async def _forever(self, reading: Reading, follow: Any) -> None:
        dice = self._dice(reading.name)
        while True:
            try:
                await follow(reading, dice)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as failure:
                reading.endings[type(failure).__name__] += 1
            await asyncio.sleep(dice.uniform(0.05, 0.5))

    async def _listen(self, reading: Reading, dice: random.Random) -> None:
        """One connection: until it ends, or this client hangs up in the middle of a stream."""
        patience = dice.randint(20, 400)
        async with Reader(self._clients.port(dice), reading.last, reading.wanted) as stream:
            if stream.status != 200:
                reading.endings[str(stream.status)] += 1
                return
            while frame := await stream.frame():
                self._take(reading, frame)
                patience -= 1
                if reading.name == "slow stream" and not self._calm and dice.random() < 0.02:
                    await asyncio.sleep(dice.uniform(0.5, 3))
                if patience < 0 and not self._calm:
                    self._record.faults["client vanished in a stream"] += 1
                    return
            reading.endings["end"] += 1

    def _take(self, reading: Reading, frame: bytes) -> None:
        if frame.startswith(b"id: "):
            number, data = frame.removeprefix(b"id: ").split(b"\ndata: ", 1)
            event = json.loads(data)
            if event["seq"] != int(number):
                self._record.complain("streams", "wrong", f"{reading.name}: id {number!r} of event {event['seq']}")
            reading.take(event)
        elif not frame.startswith((b": ", b"retry: ")):
            self._record.complain("streams", "lost", f"{reading.name} after {reading.last}: {frame!r}")

    async def _page(self, reading: Reading, dice: random.Random) -> None:
        path = f"/api/events/history?order=asc&limit={PAGE}&after={reading.last}"
        response = await self._clients.attempt(Request("history", "GET", path), dice)
        if response is None:
            reading.endings["none"] += 1
        elif response.status != 200:
            self._record.complain("history", "wrong", f"{path}: {response}")
        else:
            for event in response.body["events"]:
                reading.take(event)
            if response.body["nextAfter"] != reading.last:
                self._record.complain("history", "wrong", f"{path}: nextAfter {response.body['nextAfter']}")

    async def _watch_the_list(self) -> None:
        dice = self._dice("signed list")
        while True:
            await asyncio.sleep(dice.uniform(0.3, 1))
            with suppress(OSError, TimeoutError):
                response = await self._clients.attempt(
                    Request("signed lists", "GET", "/.well-known/aitp-revocation-list", headers={}), dice
                )
                if response is not None:
                    self._check_list(response.body)

    def _check_list(self, document: dict[str, Any]) -> None:
        """Signed, not too old, holding all that was long acknowledged and nothing that nobody asked for."""
        record = self._record
        record.lists += 1
        for problem in problems_of(document):
            record.complain("signed lists", "wrong", problem)
        said = document["revocation_list"]
        listed = {entry["jti"] for entry in said["entries"]}
        dated = said["published_at"]
        if time.time() - dated > MOST_STALE_SECS:
            record.complain("signed lists", "wrong", f"a list of {dated} was served {time.time() - dated:.0f} s later")
        for entry in record.revocations.values():
            early = entry.told_at is not None and entry.told_at < dated - LIST_SLACK_SECS
            if early and entry.signable and entry.jti not in listed:
                record.complain(
                    "signed lists", "lost", f"{entry.jti}, acknowledged {dated - entry.told_at:.0f} s before"
                )
        for jti in listed - record.listable:
            record.complain("signed lists", "wrong", f"{jti} was never revoked")


def problems_of(document: dict[str, Any]) -> list[str]:
    """What the SDK, as a peer uses it, has against a list."""
    try:
        aitp.verify_revocation_list(json.dumps(document), OWN_AID)
    except Exception as refused:
        return [f"the SDK refuses the list: {refused}"]
    jtis = [entry["jti"] for entry in document["revocation_list"]["entries"]]
    return ["an entry stands twice in the list"] if len(jtis) != len(set(jtis)) else []
