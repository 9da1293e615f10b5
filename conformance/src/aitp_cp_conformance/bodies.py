"""Contract, section 2: size, depth and strings of request bodies."""

from collections.abc import AsyncIterator, Callable

from aitp_cp_conformance import expect
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment
from aitp_cp_conformance.registered import AGENTS

KIB = 1024
SMALL, LARGE = 64 * KIB, 256 * KIB
MAX_DEPTH = 64


def padded(size: int) -> bytes:
    """Return a JSON object of exactly this many bytes."""
    return b'{"padding":"' + b"x" * (size - 14) + b'"}'


def nested(depth: int) -> str:
    """Return a JSON value that is this many levels deep."""
    return "[" * depth + "]" * depth


def in_pieces(body: bytes) -> Callable[[], AsyncIterator[bytes]]:
    """Yield the body without a Content-Length."""

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 16 * KIB):
            yield body[start : start + 16 * KIB]

    return pieces


@check("2", "a body over 64 KiB is 413 `PAYLOAD_TOO_LARGE`")
async def large_body(cp: Deployment) -> None:
    for path in ("/api/webhooks", "/api/trust-anchors", "/api/pinned-keys", "/api/revocation/entries"):
        expect.error(await cp.admin.post(path, padded(SMALL + 1)), 413, "PAYLOAD_TOO_LARGE")


@check("2", "a body of 64 KiB is read")
async def largest_body(cp: Deployment) -> None:
    for path in ("/api/webhooks", "/api/trust-anchors"):
        expect.error(await cp.admin.post(path, padded(SMALL)), 400, "BODY_INVALID")


@check("2", "an enrolling agent's body over 64 KiB is 413 `PAYLOAD_TOO_LARGE`")
async def large_manifest(cp: Deployment) -> None:
    expect.error(await cp.public.post(AGENTS, padded(SMALL + 1)), 413, "PAYLOAD_TOO_LARGE")


@check("2", "a batch of events may have 256 KiB; one byte more is 413 `PAYLOAD_TOO_LARGE`")
async def large_batch(cp: Deployment) -> None:
    expect.error(await cp.admin.post("/api/events", padded(LARGE)), 400, "BODY_INVALID")
    expect.error(await cp.admin.post("/api/events", padded(LARGE + 1)), 413, "PAYLOAD_TOO_LARGE")


@check("2", "limits are enforced on the bytes read, not only on `Content-Length`")
async def large_without_length(cp: Deployment) -> None:
    for path, size in (("/api/webhooks", SMALL), ("/api/events", LARGE)):
        response = await cp.admin.post(path, in_pieces(padded(size + 1)))
        expect.error(response, 413, "PAYLOAD_TOO_LARGE")
    expect.error(await cp.admin.post("/api/webhooks", in_pieces(padded(SMALL))), 400, "BODY_INVALID")


@check("2", "JSON nested deeper than 64 is 400")
async def deep_body(cp: Deployment) -> None:
    for depth in (MAX_DEPTH, 1000, 20_000):
        body = f'{{"url": "https://a.example", "secret": {nested(depth)}}}'.encode()
        expect.error(await cp.admin.post("/api/webhooks", body), 400, "BODY_INVALID")


@check("2", "JSON nested 64 deep is read")
async def deepest_body(cp: Deployment) -> None:
    issuer = f"https://issuer.example/{cp.name('deep')}"
    extra = nested(MAX_DEPTH - 1)
    body = f'{{"issuerUrl": "{issuer}", "namespace": "{cp.namespace}", "unknown": {extra}}}'.encode()
    expect.status(await cp.admin.post("/api/trust-anchors", body), 201)


@check("2", "a NUL character in a stored string is 400")
async def nul_characters(cp: Deployment) -> None:
    issuer = f"https://issuer.example/{cp.name('nul')}"
    for path, body in (
        ("/api/trust-anchors", {"issuerUrl": issuer, "label": "a\0b"}),
        ("/api/trust-anchors", {"issuerUrl": issuer, "namespace": "\0"}),
        ("/api/webhooks", {"url": "https://hooks.example/", "secret": "a\0b"}),
        ("/api/revocation/entries", {"jti": "00000000-0000-4000-8000-00000000000x", "reason": "\0"}),
    ):
        expect.status(await cp.admin.post(path, body), 400)


@check("2", "a lone surrogate in a stored string is 400")
async def lone_surrogates(cp: Deployment) -> None:
    issuer = f"https://issuer.example/{cp.name('surrogate')}".encode()
    for path, body in (
        ("/api/trust-anchors", b'{"issuerUrl": "' + issuer + b'", "label": "\\ud800"}'),
        ("/api/trust-anchors", b'{"issuerUrl": "' + issuer + b'", "label": "\\udc00\\ud800"}'),
        ("/api/webhooks", b'{"url": "https://hooks.example/", "secret": "\\udfff"}'),
    ):
        expect.error(await cp.admin.post(path, body), 400, "BODY_INVALID")
    paired = (
        b'{"issuerUrl": "' + issuer + b'", "label": "\\ud83d\\ude00", "namespace": "' + cp.namespace.encode() + b'"}'
    )
    stored = (await cp.admin.post("/api/trust-anchors", paired)).ok(201)
    expect.equal(stored.get("label"), "\U0001f600", "a label sent as a surrogate pair")
