"""Contract, section 2, as attackers try it: uncertain framing, oversized heads, strange hosts and paths.

Only with --attacks. Nothing here changes the deployment: what is smuggled is a read of a path that does not exist.
"""

import asyncio
import re
from contextlib import suppress
from typing import NamedTuple

from yarl import URL

from aitp_cp_conformance import expect
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment

PATH = "/api/conformance-attack"  # does not exist
NOT_FOUND = 404
CONNECT_SECS = 10.0
QUIET_SECS = 0.5  # after the last byte of a response; a second response would follow at once
MAX_READ_BYTES = 2**20
DENIALS = {401, 403, NOT_FOUND, 429}
REFUSALS = {400, 408, 411, 413, 414, 417, 421, 426, 431, 501}
HUGE_BYTES = 2**17
MANY_FIELDS = 2000
STRANGER = "conformance-attack.invalid"
CLOSE = "Connection: close"

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([2-9]\d\d)[ \r]")  # a body need not end its line


class Exchange(NamedTuple):
    """All that came back on one connection; a server that only hangs up has answered nothing."""

    statuses: list[int]
    received: bytes


def head(method: str, target: str, *fields: str) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", *fields, "", ""]).encode()


async def exchange(cp: Deployment, sent: bytes) -> Exchange:
    """Send raw bytes on a connection of their own; return every response until the server is quiet or hangs up."""
    url = URL(cp.options.url)
    try:
        connecting = asyncio.open_connection(url.host, url.port, ssl=True if url.scheme == "https" else None)
        reader, writer = await asyncio.wait_for(connecting, CONNECT_SECS)
    except (OSError, TimeoutError):
        cp.skip("needs a connection to the deployment that goes through no HTTP proxy of this machine")
    try:
        with suppress(OSError, TimeoutError):
            writer.write(sent)
            await asyncio.wait_for(writer.drain(), CONNECT_SECS)
        received = await _read(reader)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return Exchange([int(status) for status in _STATUS_LINE.findall(received)], received)


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Read until the server is quiet or hangs up."""
    received = b""
    with suppress(OSError, TimeoutError):
        while len(received) < MAX_READ_BYTES:
            chunk = await asyncio.wait_for(reader.read(65536), QUIET_SECS if received else CONNECT_SECS)
            if not chunk:
                break
            received += chunk
    return received


def host(cp: Deployment) -> str:
    url = URL(cp.options.url)
    return f"Host: {url.authority}"


def target(cp: Deployment, path: str) -> str:
    return URL(cp.options.url).raw_path.rstrip("/") + path


def smuggled(cp: Deployment) -> bytes:
    """Return a whole request, to be hidden in the body of another."""
    return head("GET", target(cp, f"{PATH}/smuggled"), host(cp))


async def asked_for(cp: Deployment, path: str) -> set[int]:
    """Return the status of the path, exactly as it is spelled, to a stranger; none if the server hangs up."""
    return set((await exchange(cp, head("GET", target(cp, path), host(cp), CLOSE))).statuses)


async def answered_once(cp: Deployment, what: str, sent: bytes) -> list[int]:
    """Check that nothing behind or inside the request is answered as another one."""
    statuses = (await exchange(cp, sent)).statuses
    expect.that(len(statuses) <= 1, f"{what} is answered {len(statuses)} times: {statuses}")
    return statuses


async def refused(cp: Deployment, what: str, sent: bytes) -> None:
    """Check that the request is refused, or the connection closed without a response."""
    statuses = await answered_once(cp, what, sent)
    expect.that(set(statuses) <= REFUSALS, f"{what} is answered {statuses}")


@check("2", "attack: two Content-Lengths that differ are refused, and hide no second request", extension=True)
async def two_lengths(cp: Deployment) -> None:
    hidden = smuggled(cp)
    for lengths in ((0, len(hidden)), (len(hidden), 0)):
        fields = (f"Content-Length: {length}" for length in lengths)
        asked = head("POST", target(cp, PATH), host(cp), *fields)
        await refused(cp, f"a request with Content-Length {lengths[0]} and {lengths[1]}", asked + hidden)


@check("2", "attack: a Content-Length that is no plain number is refused", extension=True)
async def odd_lengths(cp: Deployment) -> None:
    for length in ("+4", "-1", "0x4", "4,5", "4 4", "9" * 40):
        asked = head("POST", target(cp, PATH), host(cp), f"Content-Length: {length}")
        await refused(cp, f"a request with Content-Length {length!r}", asked + b"abcd")


@check("2", "attack: Content-Length beside Transfer-Encoding hides no second request", extension=True)
async def length_and_chunks(cp: Deployment) -> None:
    body = b"0\r\n\r\n" + smuggled(cp)
    for coding in ("chunked", "Chunked", "identity, chunked", "chunked, identity", "xchunked", "\x0bchunked"):
        fields = (f"Content-Length: {len(body)}", f"Transfer-Encoding: {coding}")
        asked = head("POST", target(cp, PATH), host(cp), *fields)
        await answered_once(cp, f"a request with Content-Length and Transfer-Encoding {coding!r}", asked + body)


@check("2", "attack: a chunk whose size is no number is refused", extension=True)
async def odd_chunks(cp: Deployment) -> None:
    asked = head("POST", target(cp, PATH), host(cp), "Transfer-Encoding: chunked")
    for size in (b"zz", b"-1", b"0x4", b"f" * 40):
        await refused(cp, f"a chunk of size {size!r}", asked + size + b"\r\nabcd\r\n0\r\n\r\n")


@check("2", "attack: a line that ends in a bare LF hides no framing and no second request", extension=True)
async def bare_line_feeds(cp: Deployment) -> None:
    hidden = smuggled(cp)
    for field in (f"X-A: b\nContent-Length: {len(hidden)}", "X-A: b\nTransfer-Encoding: chunked"):
        asked = head("POST", target(cp, PATH), host(cp), "Content-Length: 0", field)
        await answered_once(cp, "a request with a bare LF among its header fields", asked + hidden)
    asked = head("POST", target(cp, PATH), host(cp), "Transfer-Encoding: chunked")
    statuses = (await exchange(cp, asked + b"0\n\n" + hidden)).statuses
    if len(statuses) > 1:
        cp.skip("the server or a proxy ends a chunk at a bare LF; from outside nobody sees whether both do")


@check("2", "attack: a body behind an offer to upgrade is no second request", extension=True)
async def upgrades(cp: Deployment) -> None:
    body = b"\r\n" * 8 + smuggled(cp)
    for protocol in ("foo", "websocket", "h2c"):
        offer = ("Connection: Upgrade", f"Upgrade: {protocol}", f"Content-Length: {len(body)}")
        asked = head("POST", target(cp, PATH), host(cp), *offer)
        await answered_once(cp, f"a request that offers {protocol}", asked + body)


@check("2", "attack: a trailer is no header field: an API key in it opens nothing", extension=True)
async def trailers(cp: Deployment) -> None:
    key = cp.require_key()
    asked = head("GET", target(cp, "/api/audit?limit=1"), host(cp), "Transfer-Encoding: chunked", CLOSE)
    statuses = (await exchange(cp, asked + f"0\r\nAuthorization: Bearer {key}\r\n\r\n".encode())).statuses
    expect.that(not {200, 204} & set(statuses), f"a gated route with the key in a trailer is answered {statuses}")


@check("2", "attack: an oversized head is refused", extension=True)
async def large_heads(cp: Deployment) -> None:
    many = [f"X-F{n}: {'a' * 50}" for n in range(MANY_FIELDS)]
    for what, sent in (
        ("a header field of 128 KiB", head("GET", target(cp, PATH), host(cp), f"X-A: {'a' * HUGE_BYTES}")),
        ("a target of 128 KiB", head("GET", target(cp, f"{PATH}?{'a' * HUGE_BYTES}"), host(cp))),
        (f"a head of {MANY_FIELDS} fields", head("GET", target(cp, PATH), host(cp), *many)),
    ):
        await refused(cp, what, sent)


@check("2", "attack: two Hosts are refused", extension=True)
async def two_hosts(cp: Deployment) -> None:
    await refused(cp, "a request with two Hosts", head("GET", target(cp, PATH), host(cp), f"Host: {STRANGER}"))


@check("2", "attack: a Host of somebody else's is nowhere in the response", extension=True)
async def strange_host(cp: Deployment) -> None:
    for path in ("/", "/console/", "/console/login", "/.well-known/aitp-manifest", PATH):
        received = (
            await exchange(cp, head("GET", target(cp, path), f"Host: {STRANGER}", "Accept: text/html", CLOSE))
        ).received
        expect.that(STRANGER.encode() not in received, f"the response to GET {path} repeats the Host {STRANGER}")


@check("2", "attack: a path with an encoded delimiter is another path", extension=True)
async def encoded_paths(cp: Deployment) -> None:
    """RFC 3986, section 2.2: only characters that are not reserved mean the same when they are encoded."""
    for path in ("/api%2flivez", "/api/livez%3fx", "/api/livez%23", "/api/livez%00", "/api/livez%2f", "/api\\livez"):
        statuses = await asked_for(cp, path)
        expect.that(statuses <= REFUSALS | {NOT_FOUND}, f"GET {path} is answered {statuses}")


@check("2", "attack: an encoded letter opens no path that is closed", extension=True)
async def encoded_letters(cp: Deployment) -> None:
    """A proxy may decode it (RFC 3986, section 6.2.2.2); what it denies, it must then deny in every spelling."""
    for path in ("/api/livez", "/api/metrics", "/api/audit"):
        allowed = await asked_for(cp, path) | REFUSALS | DENIALS
        for spelling in (path[:-1] + f"%{ord(path[-1]):02x}", path.replace("/api", "/%61pi"), f"/x/..{path}"):
            statuses = await asked_for(cp, spelling)
            expect.that(statuses <= allowed, f"GET {spelling} is answered {statuses}, and {path} is not")
