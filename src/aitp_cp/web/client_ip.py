"""Whose address a request counts against; no header is believed unless the operator named it."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.datastructures import Headers

UNKNOWN = "unknown"
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the last four bytes are the client's IPv4 address
_CACHED_KEYS = 10_000  # addresses whose bucket key is remembered; parsing one costs some microseconds


def client_ip(headers: Headers, peer: str | None, *, header: str | None, hops: int) -> str:
    """Return the named header, else the n-th forwarded entry from the right, else the peer (contract, section 4)."""
    if not header and not hops:
        return _peer_address(peer) if peer else UNKNOWN
    if header:
        named = _address(headers.get(header))
        if named:
            return named
    if hops > 0:
        entries = [entry for line in headers.getlist("x-forwarded-for") for entry in line.split(",")]
        forwarded = _address(entries[-hops]) if len(entries) >= hops else None
        if forwarded:
            return forwarded
    return _peer_address(peer) if peer else UNKNOWN


@lru_cache(_CACHED_KEYS)
def _peer_address(peer: str) -> str:
    """Return a socket's peer as clients are shown: `::ffff:192.0.2.1` on a dual-stack socket is 192.0.2.1."""
    return _address(peer) or peer


@lru_cache(_CACHED_KEYS)
def bucket_key(address: str) -> str:
    """Return what the per-IP buckets count: the address, or for IPv6 its /64 (contract, part II, section 4).

    Whoever holds one IPv6 address usually holds the whole /64. Text that is no address is returned as it is.
    """
    try:
        found = _embedded_ipv4(address)
    except ValueError:
        return address
    if isinstance(found, IPv4Address):
        return str(found)
    return str(ip_network((found, 64), strict=False))


def _embedded_ipv4(text: str) -> IPv4Address | IPv6Address:
    """Parse an address; one that carries an IPv4 client (mapped or NAT64) is that IPv4 address."""
    found = ip_address(text)
    if isinstance(found, IPv4Address):
        return found
    if found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return IPv4Address(found.packed[-4:]) if found in _NAT64 else found


def _address(text: str | None) -> str | None:
    """The canonical spelling, so that one client cannot appear as many."""
    candidate = (text or "").strip(" \t")
    if candidate.startswith("["):
        candidate = candidate[1:].partition("]")[0]
    elif candidate.count(":") == 1:
        candidate = candidate.partition(":")[0]
    try:
        return str(_embedded_ipv4(candidate.partition("%")[0]))
    except ValueError:
        return None
