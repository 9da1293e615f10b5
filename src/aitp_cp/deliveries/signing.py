"""The headers by which a receiver verifies a delivery (contract, section 12).

Both families use the secret's UTF-8 bytes as the key. https://www.standardwebhooks.com: `v1` is HMAC-SHA-256.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID


def signature_headers(secret: str, delivery_id: UUID, body: bytes, now: datetime) -> dict[str, str]:
    """Sign an attempt with the current secret and a time that receivers accept."""
    key = secret.encode()
    timestamp = str(int(now.timestamp()))
    signed = b"%b.%b.%b" % (str(delivery_id).encode(), timestamp.encode(), body)
    return {
        "X-AITP-Signature": "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest(),
        "webhook-id": str(delivery_id),
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode(),
    }


def sent_signatures(headers: Mapping[str, str]) -> tuple[str, str]:
    """Return the signatures in `signature_headers`; who knows one can send this delivery's bytes in our name."""
    return headers["X-AITP-Signature"].partition("=")[2], headers["webhook-signature"].partition(",")[2]
