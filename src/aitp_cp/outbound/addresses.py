"""Which addresses are not global unicast, and so may not be reached.

The ranges are listed, because what `ipaddress` calls global differs between Python versions
(IANA special-purpose registries; RFC 6890 and its updates).
"""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network

from aitp_cp.outbound.model import Address, Network

Ranges = Sequence[tuple[Network, str]]


def _ranges(kinds: Mapping[str, str]) -> Ranges:
    return tuple((ip_network(network), kind) for kind, networks in kinds.items() for network in networks.split())


_V4 = _ranges(
    {
        "an unspecified address": "0.0.0.0/8",
        "a private address": "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16",
        "a carrier-grade NAT address": "100.64.0.0/10",
        "a loopback address": "127.0.0.0/8",
        "a link-local address": "169.254.0.0/16",
        "a documentation address": "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24",
        "a benchmarking address": "198.18.0.0/15",
        "a multicast address": "224.0.0.0/4",
        # Routable, but answered by the host underneath a virtual machine.
        "a cloud platform's internal address": "168.63.129.16/32",
        "a reserved address": "192.0.0.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.175.48.0/24 240.0.0.0/4",
    }
)
_V6_GLOBAL = IPv6Network("2000::/3")
_V6_OUTSIDE_GLOBAL = _ranges(
    {
        "an unspecified address": "::/128",
        "a loopback address": "::1/128",
        "an IPv4-compatible address": "::/96",
        "a local NAT64 address": "64:ff9b:1::/48",
        "a private address": "fc00::/7",
        "a link-local address": "fe80::/10",
        "a site-local address": "fec0::/10",
        "a multicast address": "ff00::/8",
    }
)
_V6_INSIDE_GLOBAL = _ranges(
    {
        "a Teredo address": "2001::/32",
        "a benchmarking address": "2001:2::/48",
        "a documentation address": "2001:db8::/32 3fff::/20",
        "a 6to4 address": "2002::/16",
        "a reserved address": "2001::/23 2620:4f:8000::/48",
    }
)
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)  # the upper half of an interface identifier, RFC 5214
_LOW_32 = 0xFFFFFFFF


def forbidden(address: Address, allowed_cidrs: Sequence[Network] = ()) -> str | None:
    """Return the kind of an address that is not global unicast, unless an allowed network contains it.

    Mapped, NAT64 and ISATAP addresses are judged as the IPv4 address that they lead to. 6to4 and Teredo lead through
    relays that nobody runs any more, so they are refused whatever they embed.
    """
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return "an address with a zone"  # even in an allowed network: two interfaces' addresses would look alike
    if any(address in network for network in allowed_cidrs):
        return None
    if isinstance(address, IPv4Address):
        return _kind(address, _V4)
    if address in _MAPPED or address in _NAT64:
        return forbidden(_embedded(address), allowed_cidrs)
    if address not in _V6_GLOBAL:
        return _kind(address, _V6_OUTSIDE_GLOBAL) or "a reserved address"
    if (kind := _kind(address, _V6_INSIDE_GLOBAL)) is not None:
        return kind
    is_isatap = int(address) >> 32 & _LOW_32 in _ISATAP
    return forbidden(_embedded(address), allowed_cidrs) if is_isatap else None


def _embedded(address: IPv6Address) -> IPv4Address:
    return IPv4Address(int(address) & _LOW_32)


def _kind(address: Address, ranges: Ranges) -> str | None:
    return next((kind for network, kind in ranges if address in network), None)
