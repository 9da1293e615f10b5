"""Whose address a request counts against; no header is believed unless the operator named it."""

from ipaddress import ip_address

from starlette.datastructures import Headers

UNKNOWN = "unknown"


def client_ip(headers: Headers, peer: str | None, *, header: str | None, hops: int) -> str:
    """The named header, else the n-th forwarded entry from the right, else the peer (contract, section 4)."""
    if header:
        named = _address(headers.get(header))
        if named:
            return named
    if hops > 0:
        entries = [entry for line in headers.getlist("x-forwarded-for") for entry in line.split(",")]
        forwarded = _address(entries[-hops]) if len(entries) >= hops else None
        if forwarded:
            return forwarded
    return peer or UNKNOWN


def _address(text: str | None) -> str | None:
    """The canonical spelling, so that one client cannot appear as many."""
    candidate = (text or "").strip()
    if candidate.startswith("["):
        candidate = candidate[1:].partition("]")[0]
    elif candidate.count(":") == 1:
        candidate = candidate.partition(":")[0]
    try:
        return str(ip_address(candidate.partition("%")[0]))
    except ValueError:
        return None
