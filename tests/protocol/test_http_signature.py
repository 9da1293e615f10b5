"""One profile of RFC 9421: what it takes, and the reason for everything it refuses."""

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from aitp_cp.errors import SignatureInvalid
from aitp_cp.protocol import http_signature
from aitp_cp.protocol.http_signature import Digest, SignedRequest, check_body, fields_of, verify
from aitp_cp_client.wire.aid import Aid
from tests.support.agents import Agent, Suite, b64url, new_agent
from tests.support.signed import COVERED, content_digest, sign, signed_by_hand, signed_by_library

NOW = 1_800_000_000
BODY = b'[{"type":"handshake.started","id":"1"}]'
CP = Aid(new_agent().aid)
AGENTS: dict[Suite, Agent] = {"ed25519": new_agent(), "p256": new_agent("p256")}
AGENT = AGENTS["ed25519"]
PARAMETERS: dict[str, int | str] = {
    "created": NOW,
    "expires": NOW + 300,
    "keyid": AGENT.aid,
    "tag": "aitp-telemetry",
}
LATER = {"created": NOW + 1000, "expires": NOW + 1300}


def request(
    headers: dict[str, str], *, method: str = "POST", path: str = "/api/events", query: str = ""
) -> SignedRequest:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return SignedRequest(method, path, query, fields_of(raw))


def signed(agent: Agent = AGENT, body: bytes = BODY, audience: str = CP, **options: Any) -> dict[str, str]:
    return signed_by_hand(agent, body, audience, parameters=PARAMETERS, **options)


def reason(headers: dict[str, str], body: bytes = BODY, now: int = NOW, **sent: Any) -> str:
    with pytest.raises(SignatureInvalid) as caught:
        check_body(body, verify(request(headers, **sent), CP, now).digests)
    assert caught.value.status == 401
    return str(caught.value.extra["reason"])


@pytest.mark.parametrize("suite", ["ed25519", "p256"])
@pytest.mark.parametrize("query", ["", "a=1&b=%20", "?"])
def test_what_an_independent_library_signs_is_accepted(suite: Suite, query: str) -> None:
    agent = AGENTS[suite]
    url = "https://behind-a-proxy.example/api/events" + (f"?{query}" if query else "")
    headers = signed_by_library(agent, BODY, CP, url=url, created=NOW)
    verified = verify(request(headers, query=query), CP, NOW)
    assert verified.aid == agent.aid
    check_body(BODY, verified.digests)


@pytest.mark.parametrize(
    ("keyid", "alg", "signature"),
    [
        (
            "aid:pubkey:6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw",
            "ed25519",
            "s3GI6vp/qgbbiT3HFIi0UEr+5fLygiJhyQQoTkW4ql5sSpcY8wy7EBwZMGwAYhmKeaGnmmAF98jEaMFGnxqfBw==",
        ),
        (
            "aid:pubkey:p256:Ax4YUy_UdUwC8wQdnHXOszuD_9gax85P6ILMscmLxYlu",
            "ecdsa-p256-sha256",
            "MmdOuN0dwAE3z6bQMnCbEz7MpAPCPZOGsa8Y6MX3SGtrd18ysl/SqZds9XSLA7nCebHg7pxSREwvCKKs0iU9aQ==",
        ),
    ],
)
def test_what_npm_http_message_signatures_has_signed_is_accepted(keyid: str, alg: str, signature: str) -> None:
    """Version 1.0.6, with the seed of 32 sevens and `/api/events?a=1&b=%20`."""
    audience = Aid("aid:pubkey:" + "A" * 43)
    covered = " ".join(f'"{name}"' for name in COVERED)
    headers = {
        "content-type": "application/json",
        "aitp-audience": audience,
        "content-digest": content_digest(BODY),
        "signature": f"sig=:{signature}:",
        "signature-input": f'sig=({covered});created=1800000000;expires=1800000300;keyid="{keyid}"'
        f';alg="{alg}";tag="aitp-telemetry"',
    }
    assert verify(request(headers, query="a=1&b=%20"), audience, NOW).aid == keyid


@pytest.mark.parametrize("suite", ["ed25519", "p256"])
def test_alg_may_be_left_out_and_the_components_stand_in_any_order(suite: Suite) -> None:
    agent = AGENTS[suite]
    headers = signed(agent, changes={"keyid": agent.aid}, covered=COVERED[::-1])
    assert verify(request(headers), CP, NOW).aid == agent.aid


def test_the_tagged_spelling_of_an_ed25519_aid_is_the_same_agent() -> None:
    tagged = AGENT.aid.replace("aid:pubkey:", "aid:pubkey:ed25519:")
    assert verify(request(signed(changes={"keyid": tagged})), CP, NOW).aid == AGENT.aid


def test_digests_are_those_of_rfc_9530() -> None:
    body = b'{"hello": "world"}'
    both = (
        "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:, "
        "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:"
    )
    digests = verify(request(signed(fields={"content-digest": both})), CP, NOW).digests
    assert [digest.algorithm for digest in digests] == ["sha-256", "sha-512"]
    check_body(body, digests)
    for digest in digests:
        with pytest.raises(SignatureInvalid):
            check_body(body + b"\n", [digest])


def test_signatures_are_those_of_rfc_9421() -> None:
    """Sections B.2.4 and B.2.6; their components are not ours, so only the last step takes them."""
    ed25519 = Aid("aid:pubkey:JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs")
    base = (
        b'"date": Tue, 20 Apr 2021 02:07:55 GMT\n"@method": POST\n"@path": /foo\n"@authority": example.com\n'
        b'"content-type": application/json\n"content-length": 18\n"@signature-params": ("date" "@method" "@path" '
        b'"@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"'
    )
    signature = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
    assert http_signature.verifies(ed25519, base64.b64decode(signature), base)
    assert not http_signature.verifies(ed25519, base64.b64decode(signature), base + b" ")
    x, y = "qIVYZVLCrPZHGHjP17CTW0_-D9Lfw0EkjqF7xB4FivA", "Mc4nN9LTDOBhfoUeg8Ye9WedFRhnZXZJA12Qp0zZ6F0"
    x_number, y_number = (int.from_bytes(base64.urlsafe_b64decode(part + "="), "big") for part in (x, y))
    point = ec.EllipticCurvePublicNumbers(x_number, y_number, ec.SECP256R1()).public_key()
    p256 = Aid("aid:pubkey:p256:" + b64url(point.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)))
    digest = "mEWXIS7MaLRuGgxOBdODa3xqM1XdEvxoYhvlCFJ41QJgJc4GTsPp29l5oGX69wWdXymyU0rjJuahq4l5aGgfLQ=="
    base = (
        f'"@status": 200\n"content-type": application/json\n"content-digest": sha-512=:{digest}:\n"content-length": 23'
        '\n"@signature-params": ("@status" "content-type" "content-digest" "content-length");created=1618884473'
        ';keyid="test-key-ecc-p256"'
    ).encode()
    signature = "wNmSUAhwb5LxtOtOpNa6W5xj067m5hFrj0XQ4fvpaCLx0NKocgPquLgyahnzDnDAUy5eCdlYUEkLIj+32oiasw=="
    assert http_signature.verifies(p256, base64.b64decode(signature), base)
    assert not http_signature.verifies(p256, base64.b64decode(signature), base + b" ")


@pytest.mark.parametrize("at", range(len(BODY)))
def test_each_byte_of_the_body_is_signed(at: int) -> None:
    changed = bytes([*BODY[:at], BODY[at] ^ 1, *BODY[at + 1 :]])
    assert reason(signed(), changed) == "digest"


@pytest.mark.parametrize("left_out", COVERED)
def test_each_component_must_be_covered(left_out: str) -> None:
    assert reason(signed(covered=tuple(name for name in COVERED if name != left_out))) == "components"


@pytest.mark.parametrize("extra", ["@authority", "content-type", "content-digest"])
def test_nothing_more_may_be_covered(extra: str) -> None:
    assert reason(signed(covered=(*COVERED, extra))) == "components"


@pytest.mark.parametrize(
    ("sent", "field"),
    [({"path": "/api/events/"}, ""), ({"query": "a=2"}, ""), ({"method": "PUT"}, ""), ({}, "content-type")],
)
def test_what_is_covered_must_arrive_as_it_was_signed(sent: dict[str, Any], field: str) -> None:
    headers = signed()
    if field:
        headers[field] += ";charset=utf-8"
    assert reason(headers, **sent) == "key"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"created": NOW - 301, "expires": NOW - 1}, "time"),
        ({"created": NOW - 301, "expires": NOW + 10}, "time"),
        ({"created": NOW + 301, "expires": NOW + 310}, "time"),
        ({"created": NOW, "expires": NOW + 301}, "time"),
        ({"created": NOW, "expires": NOW - 1}, "time"),
        ({"created": NOW - 20, "expires": NOW - 1}, "time"),
        ({"created": None}, "time"),
        ({"expires": None}, "time"),
        ({"created": str(NOW)}, "time"),
        ({"keyid": None}, "key"),
        ({"keyid": "test-key"}, "key"),
        ({"keyid": 7}, "key"),
        ({"keyid": new_agent().aid}, "key"),
        ({"keyid": AGENTS["p256"].aid}, "key"),
        ({"alg": "ecdsa-p256-sha256"}, "algorithm"),
        ({"alg": "hmac-sha256"}, "algorithm"),
        ({"alg": 1}, "algorithm"),
        ({"tag": None}, "components"),
        ({"tag": "web-bot-auth"}, "components"),
        ({"nonce": "abc"}, "components"),
    ],
)
def test_parameters(changes: dict[str, Any], expected: str) -> None:
    assert reason(signed(changes=changes)) == expected


@pytest.mark.parametrize(("created", "expires"), [(NOW - 300, NOW), (NOW + 300, NOW + 600), (NOW, NOW)])
def test_the_limits_of_the_times_are_within(created: int, expires: int) -> None:
    assert verify(request(signed(changes={"created": created, "expires": expires})), CP, NOW).aid == AGENT.aid


def test_another_audience_is_refused() -> None:
    assert reason(signed(audience=new_agent().aid)) == "audience"


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("signature-input", "components"),
        ("signature", "components"),
        ("content-digest", "digest"),
        ("content-type", "components"),
        ("aitp-audience", "audience"),
    ],
)
def test_a_header_that_is_missing_or_there_twice(field: str, expected: str) -> None:
    headers = signed()
    twice = [(name.encode(), value.encode()) for name, value in [*headers.items(), (field, headers[field])]]
    with pytest.raises(SignatureInvalid) as caught:
        verify(SignedRequest("POST", "/api/events", "", fields_of(twice)), CP, NOW)
    assert caught.value.extra["reason"] == expected
    del headers[field]
    assert reason(headers) == expected


@pytest.mark.parametrize(
    "digest",
    [
        "",
        "md5=:CY9rzUYh03PK3k6DJie09g==:",
        content_digest(BODY) + ", unixsum=:AAA=:",
        f"{content_digest(BODY)}, {content_digest(BODY)}",
        content_digest(BODY) + ";p",
        content_digest(BODY).replace("=:", ":").upper(),
        content_digest(BODY)[:-2] + ":",
        "sha-256=:" + "*" * 44 + ":",
        content_digest(BODY + b" "),
        content_digest(BODY) + ", " + content_digest(BODY + b" ", "sha-512"),
    ],
)
def test_digests_that_nobody_could_compare_are_refused(digest: str) -> None:
    assert reason(signed(fields={"content-digest": digest})) == "digest"


def test_a_second_signature_is_refused() -> None:
    one, two = signed(), signed(label="sig2")
    inputs = {name: f"{one[name]}, {two[name]}" for name in ("signature-input", "signature")}
    assert reason({**one, **inputs}) == "components"
    assert reason({**one, "signature": inputs["signature"]}) == "components"
    assert reason({**one, "signature-input": inputs["signature-input"]}) == "components"
    assert reason({**one, "signature": two["signature"]}) == "components"


def test_another_spelling_of_the_input_is_refused() -> None:
    headers = signed()
    text = headers["signature-input"]
    for spelled in (
        text.replace("(", "( "),
        text.replace('" "', '"  "'),
        text.replace(";created", "; created"),
        text.replace('"content-type"', '"content-type";sf'),
        text.replace('"@query"', '"@query-param";name="a"'),
        text.replace(";tag", ";created=1;tag"),
        text.replace('"aitp-telemetry"', "aitp-telemetry"),
        text.replace(f"created={NOW}", f"created={NOW}.5"),
        text.replace("sig1=", "SIG1="),
        text + ";x",
        text.partition(";")[0].replace('"@method" ', "") + ";" + text.partition(";")[2],
        "sig1=?1",
        "sig1",
        "",
        "=" * 500,
        text + " " * 3000 + "x",
    ):
        assert reason({**headers, "signature-input": spelled}) == "components", spelled


def test_each_byte_of_the_signature_counts() -> None:
    headers = signed()
    good = base64.b64decode(headers["signature"].split(":")[1])
    for at in range(64):
        bad = bytes([*good[:at], good[at] ^ 1, *good[at + 1 :]])
        assert reason({**headers, "signature": f"sig1=:{base64.b64encode(bad).decode()}:"}) == "key"
    for spelled in (good[:63], good + b"\0", b""):
        assert reason({**headers, "signature": f"sig1=:{base64.b64encode(spelled).decode()}:"}) == "key"
    assert reason({**headers, "signature": headers["signature"].replace("==:", ":")}) == "key"


def test_a_signature_under_another_agents_key_is_refused() -> None:
    assert reason(signed(new_agent())) == "key"


def test_a_p256_signature_of_zeros_and_a_point_off_the_curve_are_refused() -> None:
    agent = AGENTS["p256"]
    headers = signed(agent, changes={"keyid": agent.aid})
    assert reason({**headers, "signature": f"sig1=:{base64.b64encode(bytes(64)).decode()}:"}) == "key"
    off = Aid("aid:pubkey:p256:" + b64url(b"\x02" + bytes(31) + b"\x01"))
    assert not http_signature.verifies(off, sign(agent, b""), b"")


def test_a_digest_is_compared_under_its_own_algorithm() -> None:
    with pytest.raises(SignatureInvalid):
        check_body(b"", [Digest("sha-512", b"")])
