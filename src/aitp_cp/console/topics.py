"""What a change makes pages ask for again: from event types and audit actions to topics."""

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache


class Topic(StrEnum):
    """What a live region names in `data-live`."""

    EVENTS = "events"
    AGENTS = "agents"
    SESSIONS = "sessions"
    TOKENS = "tokens"
    DELEGATIONS = "delegations"
    REVOCATIONS = "revocations"
    WEBHOOKS = "webhooks"
    AUDIT = "audit"
    CONTAINMENTS = "containments"
    KEYS = "keys"
    TRUSTSTORE = "truststore"
    SYSTEM = "system"


# By the longest beginning of an event's type that is listed.
OF_EVENTS = {
    "agent.": (Topic.AGENTS,),
    "agent.contained": (Topic.AGENTS, Topic.CONTAINMENTS, Topic.TOKENS, Topic.REVOCATIONS),
    "agent.released": (Topic.AGENTS, Topic.CONTAINMENTS),
    "apikey.": (Topic.KEYS,),
    "handshake.": (Topic.SESSIONS, Topic.TOKENS),
    "tct.": (Topic.TOKENS,),
    "tct.revoked": (Topic.TOKENS, Topic.DELEGATIONS, Topic.REVOCATIONS),
    "token.": (Topic.TOKENS,),
    "delegation.": (Topic.DELEGATIONS,),
    "delegation.revoked": (Topic.DELEGATIONS, Topic.REVOCATIONS),
}

OF_ACTIONS = {
    "agent.": (Topic.AGENTS,),
    "agent-notes.": (Topic.AGENTS,),
    "agent.contain": (Topic.AGENTS, Topic.CONTAINMENTS),
    "agent.release": (Topic.AGENTS, Topic.CONTAINMENTS),
    "key.": (Topic.KEYS,),
    "pinned-key.": (Topic.TRUSTSTORE,),
    "revocation.": (Topic.REVOCATIONS,),
    "trust-anchor.": (Topic.TRUSTSTORE,),
    "webhook.": (Topic.WEBHOOKS,),
}

# Nothing announces what these show: results of deliveries, lists that peers fetch, the processes themselves.
BY_TIME = (Topic.WEBHOOKS, Topic.CONTAINMENTS, Topic.SYSTEM)


@lru_cache(maxsize=1024)  # types are whatever reporters write
def of_event(type: str) -> tuple[Topic, ...]:
    """Return the topics that an event concerns."""
    return Topic.EVENTS, *_longest(OF_EVENTS, type)


def of_action(action: str) -> tuple[Topic, ...]:
    """Return the topics that an audited action concerns."""
    return Topic.AUDIT, *_longest(OF_ACTIONS, action)


def _longest(table: Mapping[str, tuple[Topic, ...]], name: str) -> tuple[Topic, ...]:
    start = max((start for start in table if name.startswith(start)), key=len, default="")
    return table.get(start, ())
