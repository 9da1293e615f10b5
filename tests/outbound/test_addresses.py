from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitp_cp.outbound.addresses import forbidden

# Said once more, independently of the code: the ranges of contract section 12.
NOT_OUT_THERE = [
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
    )
]
SIX_NOT_OUT_THERE = [
    ip_network(text)
    for text in (
        "100::/64",
        "64:ff9b:1::/48",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
        "4000::/2",
        "8000::/1",
        "fc00::/7",
        "fe80::/9",
    )
]

inside = st.sampled_from(NOT_OUT_THERE).flatmap(
    lambda network: st.integers(int(network[0]), int(network[-1])).map(IPv4Address)
)
six_inside = st.sampled_from(SIX_NOT_OUT_THERE).flatmap(
    lambda network: st.integers(int(network[0]), int(network[-1])).map(IPv6Address)
)
anywhere = st.integers(0, 2**32 - 1).map(IPv4Address)
anywhere_six = st.integers(0, 2**128 - 1).map(IPv6Address)
prefixes = st.integers(int(IPv6Address("2400::")) >> 64, int(IPv6Address("2bff::")) >> 64)


def mapped(address: IPv4Address) -> IPv6Address:
    return IPv6Address(int(IPv6Address("::ffff:0:0")) | int(address))


def nat64(address: IPv4Address) -> IPv6Address:
    return IPv6Address(int(IPv6Address("64:ff9b::")) | int(address))


@given(inside)
def test_no_special_ipv4_address_passes_in_any_clothes(address: IPv4Address) -> None:
    four = int(address)
    clothes = (
        address,
        mapped(address),
        nat64(address),
        IPv6Address(four),
        IPv6Address(int(IPv6Address("::ffff:0:0:0")) | four),
        IPv6Address(int(IPv6Address("64:ff9b:1::")) | four),
        IPv6Address(int(IPv6Address("2002::")) | four << 80),
        IPv6Address(int(IPv6Address("2001::")) | four << 64),
        IPv6Address(int(IPv6Address("2001::")) | four ^ 0xFFFFFFFF),
    )
    assert [str(one) for one in clothes if forbidden(one) is None] == []


@given(inside, prefixes, st.sampled_from([0x5EFE, 0x0200_5EFE]))
def test_an_isatap_address_is_judged_by_what_it_embeds(address: IPv4Address, prefix: int, mark: int) -> None:
    assert forbidden(IPv6Address(prefix << 64 | mark << 32 | int(address))) is not None


@given(six_inside)
def test_no_special_ipv6_address_passes(address: IPv6Address) -> None:
    assert forbidden(address) is not None


@given(anywhere)
def test_what_passes_is_global_for_the_standard_library_too(address: IPv4Address) -> None:
    if forbidden(address) is None:
        assert address.is_global
        assert not address.is_multicast


@given(anywhere)
def test_the_rest_of_the_internet_passes(address: IPv4Address) -> None:
    # Three delegated /24 nobody has an endpoint in, and a cloud's address for its own machines.
    odd = ("192.31.196.", "192.52.193.", "192.175.48.", "168.63.129.16")
    special = any(address in network for network in NOT_OUT_THERE) or str(address).startswith(odd)
    assert (forbidden(address) is None) == (not special)
    assert (forbidden(mapped(address)) is None) == (not special)
    assert (forbidden(nat64(address)) is None) == (not special)


@given(anywhere_six)
def test_an_ipv6_address_that_passes_is_global_unicast(address: IPv6Address) -> None:
    if forbidden(address) is None:
        assert address in ip_network("2000::/3") or address in ip_network("64:ff9b::/96") or address.ipv4_mapped


@pytest.mark.parametrize(
    "text", ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::200e", "64:ff9b::808:808"]
)
def test_ordinary_addresses_pass(text: str) -> None:
    assert forbidden(ip_address(text)) is None


def test_an_allowed_network_is_exempt_and_no_other() -> None:
    allowed = (ip_network("127.0.0.0/8"), ip_network("fd00::/8"))
    assert forbidden(ip_address("127.1.2.3"), allowed) is None
    assert forbidden(ip_address("::ffff:127.0.0.1"), allowed) is None
    assert forbidden(ip_address("fd00::1"), allowed) is None
    for still in ("10.0.0.1", "::1", "fe80::1", "2002:7f00:1::", "fd00::1%eth0", "169.254.169.254"):
        assert forbidden(ip_address(still), allowed) is not None, still
