import json
from datetime import UTC, datetime, timedelta
from time import time
from uuid import UUID, uuid4

import aitp
import pytest

from aitp_cp.protocol.signer import RevocationEntry, Signer, signable

SEED = "5eed" * 16


def test_a_seed_is_an_identity() -> None:
    assert Signer.from_seed(SEED).aid == Signer.from_seed(SEED.upper()).aid
    assert Signer.from_seed(SEED).aid == aitp.AitpAgent.from_seed(bytes.fromhex(SEED)).aid
    assert Signer.generate().aid != Signer.generate().aid


@pytest.mark.parametrize("seed", ["", "5eed", SEED + "5e", "zz" * 32, SEED[:-1] + " ", SEED + "\n"])
def test_a_wrong_seed_is_refused_without_repeating_it(seed: str) -> None:
    with pytest.raises(ValueError, match="64 hex digits") as refused:
        Signer.from_seed(seed)
    assert not seed or seed.strip() not in str(refused.value)


def test_the_seed_is_shown_nowhere() -> None:
    signer = Signer.from_seed(SEED)
    shown = f"{signer!r} {signer} {[getattr(signer, name) for name in Signer.__slots__]}"
    assert signer.aid in shown
    assert SEED not in shown.lower()
    assert not hasattr(signer, "__dict__")


def test_its_manifest_is_what_the_contract_describes() -> None:
    signer = Signer.from_seed(SEED)
    signed = signer.manifest("https://cp.example/")
    aitp.verify_manifest_json(signed.body.decode())
    manifest = json.loads(signed.body)["manifest"]
    assert manifest["aid"] == signer.aid
    assert manifest["display_name"] == "aitp-control-plane"
    assert manifest["handshake_endpoint"] == "https://cp.example/api/aitp/handshake/hello"
    assert manifest["offered_capabilities"] == []
    assert manifest["expires_at"] - manifest["published_at"] == 86_400
    assert signed.expires_at == datetime.fromtimestamp(manifest["expires_at"], UTC)
    assert abs(signed.expires_at - datetime.now(UTC) - timedelta(days=1)) < timedelta(seconds=10)
    assert manifest["extensions"] == {
        "rfc-aitp-0008.revocation_list_uri": "https://cp.example/.well-known/aitp-revocation-list"
    }


def test_without_tls_it_advertises_no_revocation_list() -> None:
    signed = Signer.generate().manifest("http://localhost:4000")
    aitp.verify_manifest_json(signed.body.decode())
    manifest = json.loads(signed.body)["manifest"]
    assert manifest["handshake_endpoint"] == "http://localhost:4000/api/aitp/handshake/hello"
    assert "extensions" not in manifest


def test_its_revocation_list_keeps_the_given_order() -> None:
    signer = Signer.generate()
    entries = [
        RevocationEntry(str(uuid4()), 1_700_000_000, "leaked"),
        RevocationEntry(str(uuid4()), 1_600_000_000),
        RevocationEntry(str(uuid4()), 0, ""),
    ]
    envelope = signer.revocation_list(entries, 3600)
    aitp.verify_revocation_list(envelope.decode(), signer.aid)
    body = json.loads(envelope)["revocation_list"]
    assert body["issuer"] == signer.aid
    assert body["expires_at"] - body["published_at"] == 3600
    assert abs(body["published_at"] - time()) < 10
    assert body["entries"] == [
        {"jti": entries[0].jti, "revoked_at": 1_700_000_000, "reason": "leaked"},
        {"jti": entries[1].jti, "revoked_at": 1_600_000_000},
        {"jti": entries[2].jti, "revoked_at": 0, "reason": ""},
    ]


def test_an_entry_the_sdk_refuses_does_not_cost_the_whole_list() -> None:
    signer = Signer.generate()
    kept = str(uuid4())
    refused = ["00000000-0000-1000-8000-000000000000", str(uuid4()).upper(), uuid4().hex, "", "x"]
    entries = [RevocationEntry(jti, 1) for jti in (*refused, kept)]
    envelope = signer.revocation_list(entries, 3600).decode()
    aitp.verify_revocation_list(envelope, signer.aid)
    assert [entry["jti"] for entry in json.loads(envelope)["revocation_list"]["entries"]] == [kept]


def test_an_empty_list_is_signed_too() -> None:
    signer = Signer.generate()
    aitp.verify_revocation_list(signer.revocation_list([], 60).decode(), signer.aid)


@pytest.mark.parametrize("version", range(1, 9))
@pytest.mark.parametrize("variant", range(16))
def test_signable_says_what_the_sdk_signs(version: int, variant: int) -> None:
    jti = str(UUID(f"f47ac10b-58cc-{version:x}372-{variant:x}567-0e02b2c3d479"))
    assert signable(jti) == _sdk_signs(jti)


def test_signable_is_about_the_wire_form() -> None:
    jti = str(uuid4())
    for spelling in (jti.upper(), jti + "\n", "{" + jti + "}", "urn:uuid:" + jti, jti.replace("-", "")):
        assert not signable(spelling)


def _sdk_signs(jti: str) -> bool:
    try:
        aitp.AitpAgent.generate().sign_revocation_list([{"jti": jti, "revoked_at": 1}])
    except ValueError:
        return False
    return True
