"""The strong ETag of the signed list, `"<version>.<signing>"`, and the version that one of ours proves (section 21).

The version is that of the deny list, kept in the database and the same on every replica. The signing is a part of the
body's hash and a MAC over it and the version: a tag cannot be made up by a client that never received the list.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence

from aitp_cp.protocol.derived_keys import derive
from aitp_cp_client.wire import base64url

DIGEST_BYTES, MAC_BYTES = 9, 15

_OURS = re.compile(r'"(0|[1-9][0-9]{0,17})\.([A-Za-z0-9_-]{32})"')
_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def matches(if_none_match: Iterable[str], etag: str) -> bool:
    """Return whether any line names `etag`, compared weakly, or is `*` (RFC 9110, section 13.1.2)."""
    return any(line.strip() == "*" or etag in _TAG.findall(line) for line in if_none_match)


class ListTags:
    """Mints and reads tags under a key derived from the enrollment secret, which replicas share."""

    def __init__(self, secret: bytes) -> None:
        self._key = derive(secret, "revocation list tag")

    def mint(self, version: int, body_sha256: bytes) -> str:
        """Return the tag of a signed list."""
        digest = body_sha256[:DIGEST_BYTES]
        return f'"{version}.{base64url.encode(digest + self._mac(version, digest))}"'

    def read(self, if_none_match: Sequence[str]) -> int | None:
        """Return the version that a request proves to hold: None unless it names exactly one tag, and one of ours."""
        shape = _OURS.fullmatch(if_none_match[0].strip(" \t")) if len(if_none_match) == 1 else None
        if shape is None:
            return None
        version = int(shape[1])
        content = base64url.decode(shape[2])
        digest, mac = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        return version if hmac.compare_digest(mac, self._mac(version, digest)) else None

    def _mac(self, version: int, digest: bytes) -> bytes:
        return hmac.digest(self._key, b"%d." % version + digest, hashlib.sha256)[:MAC_BYTES]
