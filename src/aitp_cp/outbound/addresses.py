"""Which addresses are not out there on the internet.

The ranges are listed, because what `ipaddress` calls global differs between Python versions
(IANA special-purpose registries; RFC 6890 and its updates).
"""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from aitp_cp.outbound.model import Address, Network

_V4 = tuple(
    (IPv4Network(network), kind)
    for network, kind in (
        ("0.0.0.0/8", "an unspecified address"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a carrier-grade NAT address"),
        ("127.0.0.0/8", "a loopback address"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a reserved address"),
        ("192.0.2.0/24", "a documentation address"),
        ("192.31.196.0/24", "a reserved address"),
        ("192.52.193.0/24", "a reserved address"),
        ("192.88.99.0/24", "a reserved address"),
        ("192.168.0.0/16", "a private address"),
        ("192.175.48.0/24", "a reserved address"),
        ("198.18.0.0/15", "a benchmarking address"),
        ("198.51.100.0/24", "a documentation address"),
        ("203.0.113.0/24", "a documentation address"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a reserved address"),
        # Routable, but answered by the host underneath a virtual machine.
        ("168.63.129.16/32", "a cloud platform's internal address"),
    )
)

_V6_GLOBAL = IPv6Network("2000::/3")
_V6_OUTSIDE = tuple(
    (IPv6Network(network), kind)
    for network, kind in (
        ("::/128", "an unspecified address"),
        ("::1/128", "a loopback address"),
        ("::/96", "an IPv4-compatible address"),
        ("64:ff9b:1::/48", "a local NAT64 address"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a site-local address"),
        ("ff00::/8", "a multicast address"),
    )
)
_V6_INSIDE = tuple(
    (IPv6Network(network), kind)
    for network, kind in (
        ("2001::/32", "a Teredo address"),
        ("2001:2::/48", "a benchmarking address"),
        ("2001::/23", "a reserved address"),
        ("2001:db8::/32", "a documentation address"),
        ("2002::/16", "a 6to4 address"),
        ("2620:4f:8000::/48", "a reserved address"),
        ("3fff::/20", "a documentation address"),
    )
)

_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)  # the upper half of an interface identifier, RFC 5214
_LOW_32 = 0xFFFFFFFF


def forbidden(address: Address, allowed_cidrs: Sequence[Network] = ()) -> str | None:
    """What kind of address this is, if it is not global unicast and in none of the allowed networks.

    Mapped and NAT64 addresses are judged as the IPv4 address that they lead to. 6to4 and Teredo lead through
    relays that nobody runs any more: they are refused whatever they embed.
    """
    if _within(address, allowed_cidrs):
        return None
    if isinstance(address, IPv4Address):
        return _kind(address, _V4)
    if address.scope_id is not None:
        return "an address with a zone"
    if address in _MAPPED or address in _NAT64:
        return forbidden(_embedded(address), allowed_cidrs)
    if address not in _V6_GLOBAL:
        return _kind(address, _V6_OUTSIDE) or "a reserved address"
    return _kind(address, _V6_INSIDE) or _forbidden_isatap(address, allowed_cidrs)


def _forbidden_isatap(address: IPv6Address, allowed_cidrs: Sequence[Network]) -> str | None:
    if int(address) >> 32 & _LOW_32 not in _ISATAP:
        return None
    return forbidden(_embedded(address), allowed_cidrs)


def _embedded(address: IPv6Address) -> IPv4Address:
    return IPv4Address(int(address) & _LOW_32)


def _within(address: Address, networks: Sequence[Network]) -> bool:
    # A zone would make two interfaces' addresses look alike.
    zoned = isinstance(address, IPv6Address) and address.scope_id is not None
    return not zoned and any(address in network for network in networks)


def _kind(address: Address, ranges: Sequence[tuple[Network, str]]) -> str | None:
    return next(_matching(address, ranges), None)


def _matching(address: Address, ranges: Sequence[tuple[Network, str]]) -> Iterator[str]:
    return (kind for network, kind in ranges if address in network)
