"""Every check, in the order in which they run."""

from types import ModuleType

from aitp_cp_conformance import (
    access,
    agent_auth,
    attacks,
    audit,
    bodies,
    console,
    containment,
    cors,
    dashboard,
    deliveries,
    enrolment,
    events,
    filters,
    health,
    idempotency,
    identity,
    insight,
    key_ends,
    keys,
    log,
    metrics,
    operators,
    outages,
    projections,
    rate_limits,
    reads,
    registration,
    registry,
    responses,
    revocation,
    stream,
    tokens,
    trust_store,
    webhooks,
)
from aitp_cp_conformance.check import Check

# The checks that others depend on run first: once enrolling meets its rate limit, the rest of section 8 is slow.
# The checks of rate limits run last: they read the 429 responses of the others.
ROOMS: tuple[ModuleType, ...] = (
    health,
    identity,
    registry,
    responses,
    bodies,
    cors,
    filters,
    access,
    idempotency,
    events,
    log,
    stream,
    projections,
    tokens,
    reads,
    operators,
    insight,
    console,
    outages,
    dashboard,
    revocation,
    webhooks,
    deliveries,
    trust_store,
    keys,
    key_ends,
    audit,
    metrics,
    agent_auth,
    containment,
    registration,
    enrolment,
    rate_limits,
)


def _checks_in(room: ModuleType) -> list[Check]:
    mine = room.__name__
    return [value for value in vars(room).values() if isinstance(value, Check) and value.body.__module__ == mine]


CHECKS: tuple[Check, ...] = tuple(check for room in ROOMS for check in _checks_in(room))
ATTACKS: tuple[Check, ...] = tuple(_checks_in(attacks))


def chosen(sections: frozenset[str], *, attacks: bool = False) -> tuple[Check, ...]:
    """Return the checks of these sections, or all checks; the attacks last, where they are wanted."""
    checks = tuple(check for check in CHECKS if not sections or check.section in sections)
    return checks + ATTACKS if attacks else checks
