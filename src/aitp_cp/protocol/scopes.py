"""What a credential may do: scopes, and the roles that stand for several of them (contract, part II, section 18)."""

from collections.abc import Iterable, Mapping
from enum import StrEnum


class Scope(StrEnum):
    """What one endpoint needs. The names are stored with every key and never change."""

    AGENTS_READ = "agents:read"
    AGENTS_WRITE = "agents:write"
    AGENTS_CONTAIN = "agents:contain"
    EVENTS_READ = "events:read"
    EVENTS_WRITE = "events:write"
    REVOCATION_READ = "revocation:read"
    REVOCATION_WRITE = "revocation:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    TRUST_READ = "trust:read"
    TRUST_WRITE = "trust:write"
    AUDIT_READ = "audit:read"
    DASHBOARD_READ = "dashboard:read"
    KEYS_ADMIN = "keys:admin"


class Role(StrEnum):
    """A name for several scopes, replaced by them when a key is created."""

    ADMIN = "admin"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    REPORTER = "reporter"


ALL_SCOPES = frozenset(Scope)
ROLES: Mapping[Role, frozenset[Scope]] = {
    Role.ADMIN: ALL_SCOPES,
    Role.OPERATOR: ALL_SCOPES - {Scope.KEYS_ADMIN},
    Role.AUDITOR: frozenset(scope for scope in Scope if scope.endswith(":read")),
    Role.REPORTER: frozenset({Scope.EVENTS_WRITE}),
}


def in_order(scopes: Iterable[Scope]) -> list[Scope]:
    """Return the scopes without duplicates, in the order in which every list shows them."""
    members = set(scopes)
    return [scope for scope in Scope if scope in members]
