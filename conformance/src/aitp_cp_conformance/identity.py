"""Contract, section 7: the control plane's own identity."""

import time
from typing import Any

from aitp_cp_client.wire.verification import Unverified, manifest_issuer
from aitp_cp_conformance import expect
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment
from aitp_cp_conformance.model import Broken

PATH = "/.well-known/aitp-manifest"
HELLO = "/api/aitp/handshake/hello"
TTL_SECS = 86_400
MIN_LEFT_SECS = 3600


async def own_manifest(cp: Deployment) -> dict[str, Any]:
    """Return the members of the control plane's manifest."""
    body = (await cp.public.get(PATH)).ok()
    expect.members(body, ("manifest",), "the envelope")
    fields: dict[str, Any] = body["manifest"]
    return fields


@check("7", "`GET /.well-known/aitp-manifest` is a signed envelope that the SDK verifies")
async def verifies(cp: Deployment) -> None:
    response = await cp.public.get(PATH)
    response.ok()
    try:
        manifest_issuer(response.body)
    except Unverified as refused:
        raise Broken(f"{PATH}: {refused}") from refused


@check("7", "it has `Cache-Control: max-age=3600`")
async def cached(cp: Deployment) -> None:
    shown = (await cp.public.get(PATH)).headers.get("cache-control", "")
    expect.that("max-age=3600" in [part.strip() for part in shown.split(",")], f"Cache-Control is {shown!r}")


@check("7", "its display name is `aitp-control-plane`")
async def display_name(cp: Deployment) -> None:
    expect.equal((await own_manifest(cp)).get("display_name"), "aitp-control-plane", "display_name")


@check("7", "its `handshake_endpoint` is the base URL + `/api/aitp/handshake/hello`")
async def handshake_endpoint(cp: Deployment) -> None:
    endpoint = (await own_manifest(cp)).get("handshake_endpoint", "")
    base = endpoint.removesuffix(HELLO)
    expect.that(base != endpoint and base.startswith(("http://", "https://")), f"handshake_endpoint is {endpoint!r}")


@check("7", "it offers no capabilities")
async def no_capabilities(cp: Deployment) -> None:
    expect.equal((await own_manifest(cp)).get("offered_capabilities"), [], "offered_capabilities")


@check("7", "it is valid for 86,400 s and is renewed before its last hour")
async def lifetime(cp: Deployment) -> None:
    fields = await own_manifest(cp)
    expect.equal(fields["expires_at"] - fields["published_at"], TTL_SECS, "expires_at - published_at")
    left = fields["expires_at"] - time.time()
    expect.that(left >= MIN_LEFT_SECS - 60, f"the manifest ends in {left:.0f} s")


@check("7", "the identity stays the same")
async def stable(cp: Deployment) -> None:
    aids = {(await own_manifest(cp))["aid"] for _ in range(5)}
    twin = (await cp.public.get("/api/well-known/aitp-manifest")).ok()["manifest"]["aid"]
    expect.equal(aids, {twin}, "the AIDs of six manifests")


@check("7", "it advertises the revocation list's URL when the base URL is https")
async def advertised_list(cp: Deployment) -> None:
    fields = await own_manifest(cp)
    base = fields["handshake_endpoint"].removesuffix(HELLO)
    advertised = _strings(fields.get("extensions"))
    expected = base + "/.well-known/aitp-revocation-list"
    if base.startswith("https://"):
        expect.that(expected in advertised, f"extensions name {advertised}, not {expected}")
    else:
        expect.that(expected not in advertised, f"{expected} is advertised although it is not https")


@check("7", "`POST /api/aitp/handshake/hello` is 501 `HANDSHAKE_UNSUPPORTED`", extension=True)
async def never_handshakes(cp: Deployment) -> None:
    for body in (None, {}, {"message_type": "mutual_hello"}):
        expect.error(await cp.public.post(HELLO, body), 501, "HANDSHAKE_UNSUPPORTED")


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for member in value.values() for text in _strings(member)]
    return [value] if isinstance(value, str) else []
