import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import rfc8785

from aitp_cp.errors import BodyInvalid, ManifestExpired, ManifestInvalid
from aitp_cp.protocol import manifest as manifests
from aitp_cp.protocol.manifest import Manifest
from tests.protocol.ids import short
from tests.support.agents import (
    ENDPOINT,
    Agent,
    compact,
    manifest,
    members,
    new_agent,
    sdk_manifest,
    signed,
    tampered,
)

AGENT = new_agent()
NOW = datetime.now(UTC)
PUBLISHED = int(NOW.timestamp())


def verify(body: bytes, now: datetime = NOW, *, production: bool = True, **left: timedelta) -> Manifest:
    return manifests.verify(body, now, production=production, **left)


def refusal(body: bytes, now: datetime = NOW, *, production: bool = True) -> ManifestInvalid:
    with pytest.raises(ManifestInvalid) as caught:
        verify(body, now, production=production)
    return caught.value


def changed(agent: Agent = AGENT, **changes: Any) -> bytes:
    return manifest(agent, published_at=PUBLISHED, **changes)


@pytest.mark.parametrize("suite", ["ed25519", "p256"])
def test_a_manifest_of_the_sdk_is_read_in_full(suite: Any) -> None:
    agent = new_agent(suite)
    body = sdk_manifest(agent, name="Ärger ✓", caps=["cap.b", "cap.a"], ttl_secs=3600)
    wire = json.loads(body)["manifest"]
    found = verify(body, datetime.now(UTC))
    assert (found.aid, found.suite, found.display_name) == (agent.aid, suite, "Ärger ✓")
    assert (found.handshake_endpoint, found.offered_caps) == (ENDPOINT, ("cap.b", "cap.a"))
    assert (found.published_at.timestamp(), found.expires_at.timestamp()) == (wire["published_at"], wire["expires_at"])
    assert found.published_at.tzinfo is UTC
    assert found.namespace is None
    assert found.raw.encode() == body
    assert found.canonical_sha256 == hashlib.sha256(rfc8785.dumps({"manifest": wire})).hexdigest()


def test_only_p256_is_sent_to_a_thread() -> None:
    assert manifests.needs_thread(sdk_manifest(new_agent("p256")))
    assert not manifests.needs_thread(sdk_manifest(new_agent()))


def test_the_fingerprint_is_that_of_the_content_and_the_text_is_kept() -> None:
    body = changed(extensions={"weight": 10.0, "namespace": "team/a"})
    respelled = json.dumps(dict(reversed(json.loads(body)["manifest"].items())), indent=2)
    respelled = '{ "manifest": ' + respelled.replace("aitp/0.3", "aitp\\/0.3").replace("10.0", "1e1") + "}\n"
    one, other = verify(body), verify(respelled.encode())
    assert one.canonical_sha256 == other.canonical_sha256
    assert other.raw == respelled
    assert one.namespace == "team/a"
    assert verify(changed()).canonical_sha256 != one.canonical_sha256


def test_an_integer_beyond_the_floats_does_not_break_the_fingerprint() -> None:
    fields = members(AGENT, published_at=PUBLISHED) | {"extensions": {"n": 1e21}}
    body = compact(signed(AGENT, fields)).replace(b"1e+21", b"1" + b"0" * 21)
    assert len(verify(body).canonical_sha256) == 64


def test_both_spellings_of_an_aid_enrol_the_same_agent() -> None:
    tagged = AGENT.aid.replace("aid:pubkey:", "aid:pubkey:ed25519:")
    assert verify(changed(aid=tagged)).aid == AGENT.aid


def test_an_agent_without_a_name_is_shown_as_its_aid() -> None:
    assert verify(changed(drop="display_name")).display_name == AGENT.aid


def test_an_oidc_agent_needs_no_key_in_its_hint() -> None:
    hint = {"type": "oidc", "subject": "a", "issuer": "https://idp.example"}
    assert verify(changed(identity_hint=hint, accepted_identity_types=["oidc"])).aid == AGENT.aid


@pytest.mark.parametrize("body", [b"", b"{", b'{"manifest":{}', b"\xff", b'{"manifest": NaN}'])
def test_what_is_not_json(body: bytes) -> None:
    with pytest.raises(BodyInvalid):
        verify(body)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"display_name": "a\0b"}, "NUL"),
        ({"offered_capabilities": ["\0"]}, "NUL"),
        ({"extensions": {"\0": 1}}, "NUL"),
        ({"extensions": {"x": json.loads("[" * 62 + "]" * 62)}}, "deeper than 64"),
    ],
    ids=short,
)
def test_authentic_manifests_that_cannot_be_stored(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(BodyInvalid, match=reason):
        verify(changed(**changes))


def test_the_deepest_nesting_that_is_accepted() -> None:
    assert verify(changed(extensions={"x": json.loads("[" * 61 + "]" * 61)})).aid == AGENT.aid


def test_a_lone_surrogate_is_refused_before_the_sdk_sees_it() -> None:
    with pytest.raises(BodyInvalid, match="lone surrogate"):
        verify(changed().replace(b"Test agent", b"\\ud800"))


@pytest.mark.parametrize("body", [b"[]", b"5", b"null", b'"manifest"', b"{}", b'{"manifest":null}', b'{"manifest":[]}'])
def test_what_is_no_envelope(body: bytes) -> None:
    refused = refusal(body)
    assert "envelope" in refused.message
    assert "verifyCode" not in refused.extra


def duplicated(body: bytes) -> bytes:
    return body.replace(b'"version"', b'"version":"aitp/0.3","version"', 1)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (tampered(changed()), "signature_invalid"),
        (tampered(changed(), aid=new_agent().aid), "signature_invalid"),
        (changed(version="aitp/0.2"), "version_unknown"),
        (changed(surprise=1), "unknown_field"),
        (json.dumps({**json.loads(changed()), "extra": 1}).encode(), "unknown_field"),
        (changed(identity_hint={"type": "pinned_key", "subject": "a"}), "identity_hint_malformed"),
        (duplicated(changed()), "malformed"),
        (changed(drop="offered_capabilities"), "malformed"),
        (changed(offered_capabilities=[1]), "malformed"),
        (changed(expires_at=float(PUBLISHED + 86_400)), "malformed"),
        (changed(expires_at=2**63), "malformed"),
        (changed(expires_at=-(2**63) - 1), "malformed"),
        (changed(expires_at="tomorrow"), "malformed"),
        (changed(expires_at=None), "malformed"),
        (changed(extensions=[]), "malformed"),
        (changed(aid="aid:pubkey:short"), "malformed"),
        (changed(identity_hint={"type": "weird", "subject": "a"}), "malformed"),
        (b'{"manifest":{}}', "malformed"),
    ],
    ids=short,
)
def test_the_sdks_verdict_reaches_the_client(body: bytes, code: str) -> None:
    assert refusal(body).extra == {"verifyCode": code}


def test_a_stolen_manifest_with_another_agents_proof_is_refused() -> None:
    other = new_agent()
    fields = members(AGENT, published_at=PUBLISHED)
    fields["proof_of_possession"] = members(other)["proof_of_possession"]
    assert refusal(compact(signed(AGENT, fields))).extra == {"verifyCode": "pop_failed"}


def test_limits_are_inclusive() -> None:
    caps = ["c" * 128] + [f"cap.{n}" for n in range(255)]
    found = verify(changed(display_name="\U0001f600" * 256, offered_capabilities=caps))
    assert (len(found.display_name), len(found.offered_caps)) == (256, 256)


NON_CANONICAL = AGENT.aid[:-1] + chr(ord(AGENT.aid[-1]) + 1)


@pytest.mark.parametrize(
    ("changes", "field", "bound"),
    [
        ({"display_name": "n" * 257}, "display_name", "256"),
        ({"offered_capabilities": [str(n) for n in range(257)]}, "offered_capabilities", "256"),
        ({"offered_capabilities": ["c" * 129]}, "offered_capabilities", "128"),
        ({"handshake_endpoint": "/relative"}, "handshake_endpoint", "absolute"),
        ({"handshake_endpoint": ""}, "handshake_endpoint", "absolute"),
        ({"handshake_endpoint": "ftp://agent.example/"}, "handshake_endpoint", "http"),
        ({"handshake_endpoint": "https://"}, "handshake_endpoint", "absolute"),
        ({"handshake_endpoint": "https:///path"}, "handshake_endpoint", "absolute"),
        ({"handshake_endpoint": "https://:443/"}, "handshake_endpoint", "absolute"),
        ({"handshake_endpoint": "https:agent.example"}, "handshake_endpoint", "absolute"),
        ({"handshake_endpoint": "https://agent.example:99999/"}, "handshake_endpoint", "absolute"),
        ({"handshake_endpoint": "https://[::1/"}, "handshake_endpoint", "absolute"),
        ({"handshake_endpoint": " https://agent.example/"}, "handshake_endpoint", "absolute"),
        ({"handshake_endpoint": "https://agent.example/a b"}, "handshake_endpoint", "absolute"),
        ({"handshake_endpoint": "https://agent.example\n/"}, "handshake_endpoint", "absolute"),
        ({"handshake_endpoint": "https://good.example\\@evil.example/"}, "handshake_endpoint", "absolute"),
        ({"handshake_endpoint": "http://agent.example/"}, "handshake_endpoint", "https"),
        ({"expires_at": 253_402_300_800}, "expires_at", "9999"),
        ({"expires_at": 2**53 + 2}, "expires_at", "9999"),
        ({"expires_at": -5}, "expires_at", "1970"),
        pytest.param({"expires_at": PUBLISHED}, "expires_at", "published_at", id="expires when published"),
        ({"published_at": -5}, "published_at", "1970"),
        ({"extensions": {"namespace": 5}}, "namespace", "string"),
        ({"extensions": {"namespace": ["a"]}}, "namespace", "string"),
        (
            {"identity_hint": {"type": "pinned_key", "subject": "a", "public_key": new_agent().key}},
            "public_key",
            "manifest.aid",
        ),
        (
            {"identity_hint": {"type": "pinned_key", "subject": "a", "public_key": "zz"}},
            "public_key",
            "manifest.aid",
        ),
    ],
    ids=short,
)
def test_what_the_sdk_leaves_to_the_control_plane(changes: dict[str, Any], field: str, bound: str) -> None:
    refused = refusal(manifest(AGENT, **{"published_at": PUBLISHED, **changes}))
    assert field in refused.message
    assert bound in refused.message
    assert "verifyCode" not in refused.extra


def test_a_publication_in_the_future_is_refused_beyond_five_minutes() -> None:
    assert verify(manifest(AGENT, published_at=PUBLISHED + 299)).published_at > NOW
    assert "future" in refusal(manifest(AGENT, published_at=PUBLISHED + 302)).message


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:8080/h", "http://127.9.9.9/h", "http://[::1]/h", "http://localhost:1/h"]
)
def test_loopback_may_go_without_tls_in_production(endpoint: str) -> None:
    assert verify(changed(handshake_endpoint=endpoint)).handshake_endpoint == endpoint


@pytest.mark.parametrize("endpoint", ["http://localhost.example/", "http://127.0.0.1.example/", "http://10.0.0.1/"])
def test_nothing_else_may_but_in_development_everything(endpoint: str) -> None:
    assert "https" in refusal(changed(handshake_endpoint=endpoint)).message
    assert verify(changed(handshake_endpoint=endpoint), production=False).handshake_endpoint == endpoint


def test_an_international_host_and_upper_case_scheme_are_fine() -> None:
    for endpoint in ("https://bücher.example/h", "HTTPS://AGENT.EXAMPLE/H"):
        assert verify(changed(handshake_endpoint=endpoint)).handshake_endpoint == endpoint


def test_expiry_is_judged_at_the_given_time() -> None:
    body = manifest(AGENT, published_at=PUBLISHED, ttl_secs=3600)
    end = datetime.fromtimestamp(PUBLISHED + 3600, UTC)
    assert verify(body, end - timedelta(minutes=5)).expires_at == end
    with pytest.raises(ManifestExpired) as short:
        verify(body, end - timedelta(minutes=4, seconds=59))
    assert short.value.extra == {}
    assert "5 minutes" in short.value.message
    for moment in (end, end + timedelta(days=400)):
        with pytest.raises(ManifestExpired) as over:
            verify(body, moment, time_left=timedelta(0))
        assert over.value.extra == {"verifyCode": "expired"}
    last = end - timedelta(milliseconds=1)
    assert verify(body, last, time_left=timedelta(0)).aid == AGENT.aid


@pytest.mark.parametrize("suite", ["ed25519", "p256"])
def test_an_expired_forgery_is_a_forgery(suite: Any) -> None:
    body = manifest(new_agent(suite), published_at=PUBLISHED - 7200, ttl_secs=3600)
    with pytest.raises(ManifestExpired):
        verify(body)
    assert refusal(tampered(body)).extra == {"verifyCode": "signature_invalid"}


def test_expiry_does_not_depend_on_the_systems_clock() -> None:
    body = manifest(AGENT, published_at=1_000_000_000, ttl_secs=3600)
    assert verify(body, datetime.fromtimestamp(1_000_000_000, UTC)).aid == AGENT.aid


def test_an_aid_in_a_second_encoding_of_its_key_is_no_second_agent() -> None:
    refused = refusal(manifest(AGENT, published_at=PUBLISHED, aid=NON_CANONICAL))
    assert refused.code == "MANIFEST_INVALID"
