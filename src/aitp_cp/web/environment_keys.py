"""The keys of `API_KEYS`, known by their digests: they hold every scope, and end with the process's settings."""

import hmac

from aitp_cp.protocol.scopes import ALL_SCOPES
from aitp_cp.setting_rules import key_digest
from aitp_cp.settings import Settings
from aitp_cp.web.principal import Kind, Principal


class EnvironmentKeys:
    def __init__(self, settings: Settings) -> None:
        self._known = [_of_environment(key.get_secret_value()) for key in settings.api_keys]
        self.exist = bool(self._known)
        self.actors = frozenset(principal.actor for _, principal in self._known)

    def find(self, digest: bytes) -> Principal | None:
        """Return who holds the key with this SHA-256."""
        match = None
        for known, principal in self._known:  # all of them, so that the time says nothing
            if hmac.compare_digest(digest, known):
                match = principal
        return match


def _of_environment(entry: str) -> tuple[bytes, Principal]:
    digest = key_digest(entry)
    actor = "apikey:" + digest.hex()[:16]
    return digest, Principal(actor=actor, kind=Kind.ENVIRONMENT, scopes=ALL_SCOPES)
