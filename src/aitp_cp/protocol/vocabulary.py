"""Every event type that has a meaning: who may emit it, whether webhooks get it, and what it changes.

Any other type may be reported; it is stored, streamed and listed, and changes nothing. The table of docs/events.md is
generated from here.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

# The `source` of the control plane's own events. Nobody else may use it.
OWN_SOURCE = "cp"
UNKNOWN_TYPE = "unknown"
TEST_TYPE = "webhook.test"
TCT_REVOKED = "tct.revoked"
FORGED_TYPE = "token.forged"
CAPABILITY_INVOKED = "capability.invoked"
# The control plane alone emits what begins like this, whether listed below or not (contract, part II, section 9).
RESERVED_PREFIX = "apikey."
KEY_CREATED = "apikey.created"
KEY_ROTATED = "apikey.rotated"
KEY_REVOKED = "apikey.revoked"


class Emitter(StrEnum):
    REPORTERS = "reporters"
    CONTROL_PLANE = "control plane"
    BOTH = "both"


class Target(StrEnum):
    """What a reported event changes beside the log."""

    SESSIONS = "sessions"
    TOKENS = "tokens"


class EventType(msgspec.Struct, frozen=True, kw_only=True):
    """`delivered_as` is the type that webhooks get; None keeps the event from them."""

    emitter: Emitter
    about: str
    delivered_as: str | None = None
    projects_to: tuple[Target, ...] = ()


def _own(about: str, delivered_as: str | None = None) -> EventType:
    return EventType(emitter=Emitter.CONTROL_PLANE, about=about, delivered_as=delivered_as)


def _reported(about: str, *projects_to: Target, delivered_as: str | None = None) -> EventType:
    return EventType(emitter=Emitter.REPORTERS, about=about, delivered_as=delivered_as, projects_to=projects_to)


_COMPLETE = _reported(
    "the session is `complete`, with its grants, and every token in the payload is stored",
    Target.SESSIONS,
    Target.TOKENS,
    delivered_as="handshake.complete",
)

VOCABULARY: Mapping[str, EventType] = {
    "agent.registered": _own("an agent has registered", "agent.registered"),
    "agent.expired": _own("an agent's manifest has expired", "agent.expired"),
    "agent.deregistered": _own("an agent has left, or was removed", "agent.deregistered"),
    "agent.contained": _own("an operator has cut an agent off: its tokens are revoked", "agent.contained"),
    "agent.released": _own("a containment has ended; the agent may enrol again", "agent.released"),
    KEY_CREATED: _own("an API key was created: `id`, `family`"),
    KEY_ROTATED: _own("an API key got a successor: `id` and `family` of the old one, `replacedBy`"),
    KEY_REVOKED: _own("an API key was revoked: `id`, `family`"),
    FORGED_TYPE: _own("a reported token has a wrong signature; once for each token", FORGED_TYPE),
    TEST_TYPE: _own("sent by `POST /api/webhooks/{id}/test` alone, whatever types a webhook asks for; never logged"),
    "handshake.started": _reported("a session with status `started`", Target.SESSIONS),
    "handshake.complete": _COMPLETE,
    "handshake.completed": _COMPLETE,
    "handshake.failed": _reported(
        "the session is `failed`, with `payload.error`", Target.SESSIONS, delivered_as="handshake.failed"
    ),
    "tct.issued": _reported("every token in the payload is stored", Target.TOKENS),
    "tct.renewal.issued": _reported("every token in the payload is stored", Target.TOKENS),
    TCT_REVOKED: EventType(
        emitter=Emitter.BOTH,
        about="the token, its delegations and all their descendants are marked revoked",
        delivered_as=TCT_REVOKED,
        projects_to=(Target.TOKENS,),
    ),
    "delegation.issued": _reported("the delegation is stored", Target.TOKENS),
    "delegation.revoked": _reported(
        "the delegation is revoked `explicit`, its descendants `parent_revoked`", Target.TOKENS
    ),
    CAPABILITY_INVOKED: _reported("counted for the dashboard, by capability and by the agent in `aid_a`"),
    UNKNOWN_TYPE: _reported("what is reported without a `type`"),
}

RESERVED_TYPES = frozenset(name for name, kind in VOCABULARY.items() if kind.emitter is Emitter.CONTROL_PLANE)
DELIVERED_AS = {name: kind.delivered_as for name, kind in VOCABULARY.items() if kind.delivered_as is not None}
DELIVERABLE = frozenset(DELIVERED_AS.values())


def is_reserved(event_type: str) -> bool:
    """Return whether only the control plane may emit this type."""
    return event_type in RESERVED_TYPES or event_type.startswith(RESERVED_PREFIX)


def types_of(target: Target) -> frozenset[str]:
    """Return the types that change a target."""
    return frozenset(name for name, kind in VOCABULARY.items() if target in kind.projects_to)
