"""What the log says about an agent."""

from datetime import datetime
from typing import Any
from uuid import uuid4

import msgspec

from aitp_cp.events.model import NewEvent


def agent_event(kind: str, aid: str, payload: dict[str, Any], now: datetime) -> NewEvent:
    """Return an event about an agent, which is its side A."""
    return NewEvent(id=uuid4(), type=kind, ts=now, aid_a=aid, payload=msgspec.json.encode(payload).decode())
