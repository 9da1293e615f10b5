"""What each replica says to keys and sessions once everything is calm."""

import asyncio
import random
from collections.abc import Sequence

from tests.torture.clients import PATIENCE_SECS, Clients
from tests.torture.load_access import Door, key_doors, kind_of, name_of, now, session_doors, trial
from tests.torture.record import Record, Session
from tests.torture.truth import Row

MOST = 50  # of each kind, the newest


async def try_doors(record: Record, ports: Sequence[int]) -> list[Row]:
    """Try every door at every replica until each behaves as it should, for at most `PATIENCE_SECS`."""
    clients = Clients(ports, record)
    clients.deadline = now() + PATIENCE_SECS
    doors = [*key_doors(record)[-MOST:], *session_doors(record)[-MOST:]]
    try:
        return [
            await _try(clients, door, replica, valid=valid)
            for door in doors
            if (valid := _is_valid(door)) is not None
            for replica in range(len(ports))
        ]
    finally:
        await clients.close()


def _is_valid(door: Door) -> bool | None:
    """None while nobody knows."""
    key = door.key if isinstance(door, Session) else door
    if key.revoked == "asked" or (isinstance(door, Session) and door.signed_out == "asked"):
        return None
    ended = [ends for ends in (door.refused_from, key.refused_from) if ends is not None]
    if not ended:
        return True
    return False if now() > min(ended) else None


async def _try(clients: Clients, door: Door, replica: int, *, valid: bool) -> Row:
    dice, port = random.Random(0), clients.ports[replica]
    accepted: bool | None = None
    while accepted is not valid and not clients.is_late:
        if accepted is not None:
            await asyncio.sleep(0.1)
        response = await clients.attempt(trial(door), dice, port)
        accepted = None if response is None else response.status == 200
    shown = {"replica": replica, "accepted": bool(accepted), "valid": valid}
    return {"kind": kind_of(door), "item": name_of(door), **shown}
