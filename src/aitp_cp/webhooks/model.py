"""Webhooks and their deliveries."""

from typing import Literal
from uuid import UUID

import msgspec

DELIVERABLE = frozenset(
    {
        "agent.registered",
        "agent.expired",
        "agent.deregistered",
        "handshake.complete",
        "handshake.failed",
        "tct.revoked",
    }
)

DeliveryStatus = Literal["pending", "in_flight", "delivered", "failed"]


class Subscriber(msgspec.Struct, frozen=True):
    """An active webhook and the types it asked for; none means all deliverable ones."""

    id: UUID
    events: frozenset[str]

    def wants(self, event_type: str) -> bool:
        return event_type in (self.events or DELIVERABLE)


class NewDelivery(msgspec.Struct, frozen=True):
    id: UUID
    webhook_id: UUID
    event_type: str
    payload: str
    body: str
