"""Agent identifiers: one spelling per key (contract, section 1)."""

import re
from typing import Literal, NewType

Aid = NewType("Aid", str)
Suite = Literal["ed25519", "p256"]

P256_PREFIX = "aid:pubkey:p256:"
_TAGGED_ED25519 = "aid:pubkey:ed25519:"

# Matches exactly one text per key. 43 characters hold 32 bytes and two spare bits, which must be zero. 44 characters
# hold the 33 bytes of a compressed point; its first byte, 02 or 03, gives `A` and one of `g` to `_`.
_SHAPE = re.compile(
    r"aid:pubkey:(?:(?:ed25519:)?[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]|p256:A[g-z0-9_-][A-Za-z0-9_-]{42})"
)


def canonical(text: str) -> Aid:
    """Return the canonical spelling (untagged for Ed25519, tagged for P-256); raise `ValueError`."""
    aid = recognise(text)
    if aid is None:
        raise ValueError("not an AID: expected aid:pubkey: and the base64url of an Ed25519 or P-256 public key")
    return aid


def recognise(text: object) -> Aid | None:
    """Return the canonical spelling, or None if `text` is not an AID."""
    if not isinstance(text, str) or _SHAPE.fullmatch(text) is None:
        return None
    if text.startswith(_TAGGED_ED25519):
        return Aid("aid:pubkey:" + text[len(_TAGGED_ED25519) :])
    return Aid(text)


def spelled(text: str) -> str:
    """Return an AID in its canonical spelling and any other text unchanged, for filters and paths."""
    return recognise(text) or text


def public_key(aid: Aid) -> str:
    """Return the key in base64url: 43 characters (Ed25519) or 44 (P-256, compressed)."""
    return aid.rpartition(":")[2]


def suite(aid: Aid) -> Suite:
    return "p256" if aid.startswith(P256_PREFIX) else "ed25519"
