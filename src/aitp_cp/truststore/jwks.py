"""Fetches key sets from identity providers, through the guarded client and within limits."""

import msgspec

from aitp_cp.errors import BodyInvalid
from aitp_cp.outbound import GuardedClient, Undecodable, decoded
from aitp_cp.protocol import json_guard
from aitp_cp.truststore import urls
from aitp_cp.truststore.model import Source

MAX_BYTES = 1024 * 1024
SYMMETRIC = "oct"  # a key whose only member is the secret
PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})  # RFC 7518, section 6


class KeysUnusable(Exception):
    """The provider's response is no key set; the message says why."""


async def fetch(client: GuardedClient, source: Source, timeout_secs: float) -> str:
    """Return the key set's JSON text, without private keys.

    It takes one or two requests of at most `timeout_secs` each. Raises `KeysUnusable` and what the client raises.
    """
    url = source.jwks_url or await _discover(client, source.issuer_url, timeout_secs)
    text, value = await _get_object(client, url, timeout_secs)
    members = value.get("keys")
    if not isinstance(members, list) or not all(isinstance(key, dict) for key in members):
        raise KeysUnusable("the key set has no array of objects called keys")
    public = [_public(key) for key in members if key.get("kty") != SYMMETRIC]
    if not public:
        raise KeysUnusable("the key set holds no public key")
    return text if public == members else msgspec.json.encode({**value, "keys": public}).decode()


def _public(key: dict[str, object]) -> dict[str, object]:
    """Drop private members: some providers serve them, and they are neither stored nor served on."""
    return {name: value for name, value in key.items() if name not in PRIVATE}


async def _discover(client: GuardedClient, issuer_url: str, timeout_secs: float) -> str:
    """Return the URL in the discovery document, which must name this issuer (OpenID Connect Discovery 1.0, 4.3)."""
    _, document = await _get_object(client, urls.discovery_url(issuer_url), timeout_secs)
    if document.get("issuer") != issuer_url:
        raise KeysUnusable("the discovery document names another issuer")
    url = document.get("jwks_uri")
    if not isinstance(url, str) or urls.complaint(url) is not None:
        raise KeysUnusable("the discovery document has no usable jwks_uri")
    return url


async def _get_object(client: GuardedClient, url: str, timeout_secs: float) -> tuple[str, dict[str, object]]:
    reply = await client.send(
        "GET",
        url,
        headers={"Accept": "application/json"},
        body=None,
        deadline_secs=timeout_secs,
        max_bytes=MAX_BYTES,
    )
    if reply.status != 200:
        raise KeysUnusable(f"the provider answered {reply.status}")
    if not reply.complete:
        raise KeysUnusable(f"the response was cut off, or is larger than {MAX_BYTES} bytes")
    try:
        body = decoded(reply, MAX_BYTES)
        value = json_guard.decode(body)
    except Undecodable as failure:
        raise KeysUnusable(str(failure)) from failure
    except BodyInvalid as refused:
        raise KeysUnusable(refused.message) from refused
    if not isinstance(value, dict):
        raise KeysUnusable("the response is not a JSON object")
    return body.decode(), value
