from ipaddress import IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from aitp_cp.web.client_ip import bucket_key, client_ip

PEER = "10.0.0.9"


def seen(*headers: tuple[str, str], header: str | None = None, hops: int = 0, peer: str | None = PEER) -> str:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return client_ip(Headers(raw=raw), peer, header=header, hops=hops)


SPOOFS = [
    ("X-Forwarded-For", "1.2.3.4"),
    ("X-Real-IP", "1.2.3.4"),
    ("Forwarded", "for=1.2.3.4"),
    ("CF-Connecting-IP", "1.2.3.4"),
    ("True-Client-IP", "1.2.3.4"),
    ("X-Client-IP", "1.2.3.4"),
]


@pytest.mark.parametrize("spoof", SPOOFS)
def test_no_header_is_believed_by_itself(spoof: tuple[str, str]) -> None:
    assert seen(spoof) == PEER


@pytest.mark.parametrize("spoof", SPOOFS)
def test_only_the_named_header_is_believed(spoof: tuple[str, str]) -> None:
    assert seen(spoof, ("X-Edge-IP", "198.51.100.7"), header="X-Edge-IP") == "198.51.100.7"
    assert seen(spoof, header="X-Edge-IP") == PEER


@pytest.mark.parametrize(
    ("hops", "expected"), [(1, "198.51.100.3"), (2, "198.51.100.2"), (3, "198.51.100.1"), (4, PEER)]
)
def test_hops_count_from_the_right(hops: int, expected: str) -> None:
    assert seen(("X-Forwarded-For", "198.51.100.1, 198.51.100.2,198.51.100.3"), hops=hops) == expected


def test_what_a_client_puts_in_front_of_the_trusted_entries_changes_nothing() -> None:
    for spoof in ("1.2.3.4", "1.2.3.4, 5.6.7.8", "', DROP TABLE", ""):
        assert seen(("X-Forwarded-For", f"{spoof}, 198.51.100.9"), hops=1) == "198.51.100.9"


def test_repeated_header_lines_are_one_list() -> None:
    lines = [("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-For", "198.51.100.2, 198.51.100.3")]
    assert seen(*lines, hops=1) == "198.51.100.3"
    assert seen(*lines, hops=3) == "1.2.3.4"


def test_the_named_header_goes_before_the_hops() -> None:
    both = [("X-Edge-IP", "198.51.100.7"), ("X-Forwarded-For", "198.51.100.8")]
    assert seen(*both, header="X-Edge-IP", hops=1) == "198.51.100.7"
    assert seen(both[1], header="X-Edge-IP", hops=1) == "198.51.100.8"


@pytest.mark.parametrize(
    ("spelled", "expected"),
    [
        ("198.51.100.7:54321", "198.51.100.7"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        (" 198.51.100.7 ", "198.51.100.7"),
    ],
)
def test_one_address_has_one_spelling(spelled: str, expected: str) -> None:
    assert seen(("X-Edge-IP", spelled), header="X-Edge-IP") == expected


@pytest.mark.parametrize("value", ["", "unknown", "not an address", "1.2.3", "1.2.3.4.5", "::g", "1.2.3.4, 5.6.7.8"])
def test_what_is_no_address_is_no_client(value: str) -> None:
    assert seen(("X-Edge-IP", value), header="X-Edge-IP") == PEER


def test_a_peer_without_an_address_is_still_one_client() -> None:
    assert seen(peer=None) == "unknown"


@given(st.text(st.characters(max_codepoint=255)), st.integers(0, 5))
def test_no_header_at_all_breaks_it(value: str, hops: int) -> None:
    assert seen(("X-Edge-IP", value), ("X-Forwarded-For", value), header="X-Edge-IP", hops=hops)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
        ("2001:DB8:1:2::1", "2001:db8:1:2:0:0:0:1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("64:ff9b::192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::2"),
    ],
)
def test_one_client_has_one_bucket(one: str, other: str) -> None:
    assert bucket_key(seen(peer=one)) == bucket_key(seen(peer=other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:3::1"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2"),
        ("64:ff9b::192.0.2.1", "64:ff9b::192.0.2.2"),
        ("64:ff9b::c000:201", "64:ff9b:1::c000:201"),
        ("192.0.2.1", "192.0.2.2"),
    ],
)
def test_different_clients_have_different_buckets(one: str, other: str) -> None:
    assert bucket_key(seen(peer=one)) != bucket_key(seen(peer=other))


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_a_slash_64_is_one_bucket(address: IPv6Address, host: int) -> None:
    sibling = IPv6Address(int(address) >> 64 << 64 | host)
    embeds = [one.ipv4_mapped is not None or one in IPv6Network("64:ff9b::/96") for one in (address, sibling)]
    if not any(embeds):
        assert bucket_key(str(address)) == bucket_key(str(sibling))


@given(st.text(max_size=60))
def test_any_text_has_a_bucket_of_bounded_length(text: str) -> None:
    assert len(bucket_key(text)) <= max(len(text), 43)


def test_a_mapped_peer_is_shown_as_the_address_it_is() -> None:
    assert seen(peer="::ffff:192.0.2.7") == "192.0.2.7"
    assert seen(("X-Forwarded-For", "::ffff:198.51.100.7"), hops=1) == "198.51.100.7"
