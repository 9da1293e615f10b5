"""The strong ETag of the signed list, `"<version>.<signing>"`, and the version that one of ours proves (section 21).

The version is that of the deny list, kept in the database and the same on every replica. The signing is a part of the
body's hash and a MAC over it and the version: a tag cannot be made up by a client that never received the list.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence

from aitp_cp.protocol.derived_keys import derive

DIGEST_BYTES, MAC_BYTES = 9, 15

_TAG = re.compile(r'"(0|[1-9][0-9]{0,17})\.([A-Za-z0-9_-]{32})"')


class ListTags:
    """Mints and reads tags under a key derived from the enrollment secret, which replicas share."""

    def __init__(self, secret: bytes) -> None:
        self._key = derive(secret, "revocation list tag")

    def mint(self, version: int, body_sha256: bytes) -> str:
        """Return the tag of a signed list."""
        digest = body_sha256[:DIGEST_BYTES]
        return f'"{version}.{base64.urlsafe_b64encode(digest + self._mac(version, digest)).decode()}"'

    def read(self, if_none_match: Sequence[str]) -> int | None:
        """Return the version that a request proves to hold: None unless it names exactly one tag, and one of ours."""
        shape = _TAG.fullmatch(if_none_match[0].strip(" \t")) if len(if_none_match) == 1 else None
        if shape is None:
            return None
        version = int(shape[1])
        try:
            content = base64.urlsafe_b64decode(shape[2])
        except binascii.Error:
            return None
        digest, mac = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        return version if hmac.compare_digest(mac, self._mac(version, digest)) else None

    def _mac(self, version: int, digest: bytes) -> bytes:
        return hmac.digest(self._key, b"%d." % version + digest, hashlib.sha256)[:MAC_BYTES]
