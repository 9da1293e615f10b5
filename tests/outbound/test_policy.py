from ipaddress import IPv4Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitp_cp.errors import BodyInvalid, UrlNotAllowed
from aitp_cp.outbound.addresses import forbidden
from aitp_cp.outbound.model import Policy
from aitp_cp.outbound.policy import check_url
from tests.outbound.hostile import NOT_URLS, REFUSED

OPEN = Policy(production=False)
STRICT = Policy(production=True)


@pytest.mark.parametrize("template", REFUSED)
def test_a_hostile_url_is_refused_for_what_it_says(template: str) -> None:
    for policy in (OPEN, STRICT):
        with pytest.raises(UrlNotAllowed) as refused:
            check_url(template.replace("{port}", "4000"), policy)
        assert refused.value.code == "URL_NOT_ALLOWED"


@pytest.mark.parametrize("text", NOT_URLS)
def test_what_is_no_url_at_all_is_an_invalid_body(text: str) -> None:
    with pytest.raises(BodyInvalid):
        check_url(text, OPEN)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("http://example.com/hook", "example.com", 80),
        ("https://example.com/hook?token=a%2Fb", "example.com", 443),
        ("HTTPS://EXAMPLE.com.:8443/x", "example.com", 8443),
        ("https://b\u00fccher.example/x", "xn--bcher-kva.example", 443),
        ("http://8.8.8.8/", "8.8.8.8", 80),
        ("http://[2606:4700:0:0::1111]/", "2606:4700::1111", 80),
        ("http://my_service.example:9000", "my_service.example", 9000),
    ],
)
def test_an_ordinary_url_passes(text: str, host: str, port: int) -> None:
    target = check_url(text, OPEN)
    assert (target.host, target.port) == (host, port)
    assert target.authority.split(":8443")[0].split(":9000")[0].strip("[]") == host


def test_path_and_query_arrive_as_they_were_written() -> None:
    assert check_url("https://e.example/a%2Fb?sig=x%2By&z", OPEN).path == "/a%2Fb?sig=x%2By&z"


def test_production_takes_https_only() -> None:
    assert check_url("https://example.com/", STRICT).port == 443
    with pytest.raises(UrlNotAllowed, match="https"):
        check_url("http://example.com/", STRICT)


@pytest.mark.parametrize(
    ("host", "listed"),
    [
        ("hooks.example.com", True),
        ("HOOKS.example.com.", True),
        ("evil-hooks.example.com", False),
        ("example.com", False),
        ("a.corp.example", True),
        ("a.b.corp.example", True),
        ("corp.example", False),
        ("notcorp.example", False),
        ("8.8.8.8", True),
        ("8.8.4.4", False),
        ("[2606:4700::1]", True),
    ],
)
def test_the_allowlist_is_exact_or_a_suffix(host: str, listed: bool) -> None:
    policy = Policy(False, ("Hooks.Example.com", ".corp.example", "8.8.8.8", "[2606:4700::1]"))
    if listed:
        check_url(f"http://{host}/", policy)
    else:
        with pytest.raises(UrlNotAllowed, match="allowlist"):
            check_url(f"http://{host}/", policy)


def test_the_allowlist_opens_no_private_address() -> None:
    with pytest.raises(UrlNotAllowed, match="private"):
        check_url("http://10.0.0.1/", Policy(False, ("10.0.0.1",)))


def test_allowed_networks_let_tests_and_private_fleets_through() -> None:
    policy = Policy(False, (), (ip_network("127.0.0.0/8"),))
    assert str(check_url("http://127.0.0.1:9/x", policy).literal) == "127.0.0.1"
    assert check_url("http://localhost:9/x", policy).literal is None
    with pytest.raises(UrlNotAllowed):
        check_url("http://[::1]:9/", policy)


def spellings(address: IPv4Address) -> list[str]:
    """What `inet_aton` would accept for an address, beside the plain form."""
    number, (a, b, c, d) = int(address), address.packed
    return [
        str(number),
        hex(number),
        f"0{number:o}",
        f"{a}.{number & 0xFFFFFF}",
        f"{a}.{b}.{number & 0xFFFF}",
        f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        f"{a:04o}.{b}.{c}.0x{d:X}",
        f"{a}.{b}.{c}.{d}.",
    ]


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_no_spelling_hides_an_address(address: IPv4Address) -> None:
    good = forbidden(address) is None
    for host in (str(address), *spellings(address)):
        try:
            target = check_url(f"http://{host}/", OPEN)
        except UrlNotAllowed:
            continue
        assert good, host
        assert target.literal == address, host


@given(st.text(max_size=40), st.sampled_from(["", "http://", "https://", "http://a.example", "http://127.0.0.1"]))
def test_any_text_is_either_a_target_or_a_clean_refusal(text: str, prefix: str) -> None:
    try:
        target = check_url(prefix + text, OPEN)
    except (BodyInvalid, UrlNotAllowed):
        return
    assert target.scheme in {"http", "https"}
    assert target.authority.startswith((target.host, f"[{target.host}]"))
    assert target.path.startswith("/")
    assert target.path.isascii()
    assert "#" not in target.path
