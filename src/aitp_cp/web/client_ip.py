"""The client address of a request, for rate limits; only headers that the operator configured are trusted."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.datastructures import Headers

UNKNOWN = "unknown"
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the last four bytes are the client's IPv4 address
_CACHED_KEYS = 10_000  # addresses; parsing one costs some microseconds


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
    """Return the canonical address of a socket's peer: `::ffff:192.0.2.1` is 192.0.2.1."""
    return _address(peer) or peer


@lru_cache(_CACHED_KEYS)
def bucket_key(address: str) -> str:
    """Return the key of per-IP buckets: the address, or for IPv6 its /64 (contract, part II, section 4).

    The owner of an IPv6 address usually owns the whole /64. Text that is no address is returned unchanged.
    """
    try:
        parsed = _embedded_ipv4(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    return str(ip_network((parsed, 64), strict=False))


def _embedded_ipv4(text: str) -> IPv4Address | IPv6Address:
    """Parse an address; return the IPv4 address inside a mapped or NAT64 address."""
    parsed = ip_address(text)
    if isinstance(parsed, IPv4Address):
        return parsed
    if parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return IPv4Address(parsed.packed[-4:]) if parsed in _NAT64 else parsed


def _address(text: str | None) -> str | None:
    """Return the canonical spelling, so that a client has one key; None if it is no address."""
    candidate = (text or "").strip(" \t")
    if candidate.startswith("["):
        candidate = candidate[1:].partition("]")[0]
    elif candidate.count(":") == 1:
        candidate = candidate.partition(":")[0]
    try:
        return str(_embedded_ipv4(candidate.partition("%")[0]))
    except ValueError:
        return None
