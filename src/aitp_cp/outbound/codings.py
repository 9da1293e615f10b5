"""Decompresses, within a limit, what a server compressed although nobody requested it (RFC 9110, section 8.4)."""

import zlib

from aitp_cp.outbound.model import Reply

MAX_CODINGS = 3
_GZIP, _ZLIB = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS
_WINDOWS = {"gzip": (_GZIP,), "x-gzip": (_GZIP,), "deflate": (_ZLIB, -_ZLIB)}  # some send deflate without its wrapper


class Undecodable(Exception):
    """The body cannot be decompressed; the text is short and safe to show."""


def decoded(reply: Reply, max_bytes: int) -> bytes:
    """Return the body without its content codings; raises `Undecodable`. More than `max_bytes` is undecodable too."""
    header = [coding.strip().lower() for coding in reply.headers.get("content-encoding", "").split(",")]
    codings = [coding for coding in header if coding not in {"", "identity"}]
    if len(codings) > MAX_CODINGS or not _WINDOWS.keys() >= set(codings):
        raise Undecodable("the response is compressed in a way that was not asked for and is not known")
    body = reply.body
    for coding in reversed(codings):
        body = _inflated(body, _WINDOWS[coding], max_bytes)
    return body


def _inflated(body: bytes, windows: tuple[int, ...], max_bytes: int) -> bytes:
    for window in windows:
        stream = zlib.decompressobj(window)
        try:
            plain = stream.decompress(body, max_bytes + 1)
        except zlib.error:
            continue
        if len(plain) > max_bytes:
            raise Undecodable(f"the response is larger than {max_bytes} bytes once it is decompressed")
        if stream.eof:
            return plain
    raise Undecodable("the response is compressed, and broken or cut off")
