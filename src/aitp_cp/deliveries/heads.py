"""The beginning of a receiver's response, kept with its attempt: untrusted text, without the secrets that we sent."""

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

from aitp_cp.outbound import Reply

MAX_BYTES = 4096
MAX_FIELDS_BYTES = 2048  # of the header fields, so that long ones leave room for the body
# The longest spelling of a secret of 255 characters is 12 bytes for each (`\\ud83d\\ude00`): one that begins within
# the kept part is found whole.
MARGIN_BYTES = 255 * 12
# Credentials of the receiver and its users.
PRIVATE_FIELDS = frozenset({"authorization", "cookie", "proxy-authorization", "set-cookie", "set-cookie2"})
PLAIN_CODINGS = frozenset({"", "identity", "chunked"})


def head_of(reply: Reply, secrets: Sequence[str]) -> tuple[str, bool]:
    """Return header fields and body as text of at most `MAX_BYTES` bytes, and whether something was left out.

    `secrets` are masked in every spelling a receiver would echo. A body in a content coding is left out, for it could
    hide one. Bytes that are not UTF-8 are written as `\\xff`.
    """
    spellings = sorted(set(_spellings(secrets)), key=len, reverse=True)
    fields, body = _fields(reply), reply.body if _is_plain(reply) else b""
    kept = _masked(fields, spellings, MAX_FIELDS_BYTES) + b"\n"
    kept += _masked(body, spellings, MAX_BYTES - len(kept))
    text = kept.decode("utf-8", "backslashreplace").replace("\0", "\\x00").encode()
    whole = reply.complete and len(fields) + 1 + len(reply.body) == len(kept) and len(text) <= MAX_BYTES
    return text[:MAX_BYTES].decode("utf-8", "ignore"), not whole


def _fields(reply: Reply) -> bytes:
    shown = ((name, "***" if name in PRIVATE_FIELDS else value) for name, value in reply.headers.items())
    return "".join(f"{name}: {value}\n" for name, value in shown).encode("latin-1")


def _is_plain(reply: Reply) -> bool:
    codings = f"{reply.headers.get('content-encoding', '')},{reply.headers.get('transfer-encoding', '')}"
    return all(coding.strip().lower() in PLAIN_CODINGS for coding in codings.split(","))


def _spellings(secrets: Iterable[str]) -> Iterator[bytes]:
    for secret in filter(None, secrets):
        for spelling in (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
            yield spelling.encode().lower()
        yield quote(secret, safe="").encode().lower()
        yield base64.b64encode(secret.encode()).rstrip(b"=").lower()


def _masked(raw: bytes, spellings: Iterable[bytes], limit: int) -> bytes:
    """Return the first `limit` bytes with each secret, in any case, as stars of the same length."""
    raw = raw[: limit + MARGIN_BYTES]
    lower, masked = raw.lower(), bytearray(raw)
    for spelling in spellings:
        at = lower.find(spelling)
        while at >= 0:
            masked[at : at + len(spelling)] = b"*" * len(spelling)
            at = lower.find(spelling, at + 1)
    return bytes(masked[:limit])
