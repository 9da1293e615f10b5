"""Checks of a URL that need no name server."""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import quote

from yarl import URL

from aitp_cp.errors import BodyInvalid, UrlNotAllowed
from aitp_cp.outbound.addresses import forbidden
from aitp_cp.outbound.model import Address, Policy, Target
from aitp_cp.settings import Settings

MAX_URL_CHARACTERS = 2048
LOOPBACK = IPv4Address("127.0.0.1")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\x9f\\]|\s")
_AUTHORITY = re.compile(r"[A-Za-z]+://([^/?#]*)")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_NUMBER = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")


def policy_of(settings: Settings) -> Policy:
    """Return the policy for webhooks (contract, section 12)."""
    return Policy(settings.production, settings.webhook_url_allowlist, settings.webhook_allowed_cidrs)


@lru_cache(maxsize=1024)
def check_url(text: str, policy: Policy) -> Target:
    """Return the destination of a URL; raises `BodyInvalid`, or `UrlNotAllowed` when it may not be reached."""
    url = parse_url(text)
    if policy.production and url.scheme != "https":
        raise UrlNotAllowed("only https URLs are allowed in production")
    host = (url.raw_host or "").lower().removesuffix(".")
    literal = _literal(host)
    if literal is None:
        _check_name(host, policy)
    if policy.allowlist and not any(_listed(host, entry.lower().removesuffix(".")) for entry in policy.allowlist):
        raise UrlNotAllowed("the host is not on the allowlist")
    if literal is not None:
        check_address(literal, policy)
        host = str(literal)
    if not url.port:
        raise UrlNotAllowed("port 0 is not allowed")
    authority = url.with_host(host).host_port_subcomponent or host
    return Target(url.scheme, host, url.port, literal, authority, _path(text))


def origin_of(text: str) -> str | None:
    """Return scheme, host and port of a stored URL, without a default port; None if it is no URL."""
    try:
        return str(URL(text).origin())
    except ValueError:
        return None


def check_address(address: Address, policy: Policy) -> None:
    """Raise `UrlNotAllowed` unless the address is global unicast or in an allowed network."""
    kind = forbidden(address, policy.allowed_cidrs)
    if kind is not None:
        raise UrlNotAllowed(f"the URL leads to {kind}")


def parse_url(text: str) -> URL:
    """Return an absolute http(s) URL without credentials; raises `BodyInvalid` or `UrlNotAllowed`."""
    scheme = _SCHEME.match(text)
    if scheme is None or len(text) > MAX_URL_CHARACTERS:
        raise BodyInvalid(f"url must be an absolute URL of at most {MAX_URL_CHARACTERS} characters")
    if scheme[1].lower() not in {"http", "https"}:
        raise UrlNotAllowed("only http and https URLs are allowed")
    if _UNSAFE.search(text):
        raise UrlNotAllowed("the URL holds a blank, a control character or a backslash")
    authority = _AUTHORITY.match(text)
    if authority is not None and "@" in authority[1]:
        raise UrlNotAllowed("the URL must not hold credentials")
    try:
        url = URL(text)
    except ValueError:
        raise BodyInvalid("url is not a valid URL") from None
    if not url.raw_host:
        raise BodyInvalid("url must name a host")
    return url


def _path(text: str) -> str:
    """Return path and query byte for byte, for a signature may cover them; only non-ASCII characters are encoded."""
    match = _AUTHORITY.match(text)
    assert match is not None  # a URL without `//` has no host
    path = text[match.end() :].partition("#")[0]
    return _NOT_ASCII.sub(lambda found: quote(found[0], safe=""), path if path.startswith("/") else f"/{path}")


def _literal(host: str) -> Address | None:
    """Return the address that a host is; raises `UrlNotAllowed` for every spelling but the plain one."""
    # A number in the last label makes a host an IPv4 address in the URL standard.
    if ":" not in host and not _NUMBER.match(host.rpartition(".")[2]):
        return None
    try:
        address = ip_address(host)
    except ValueError:
        raise UrlNotAllowed("the host is not a plainly written address") from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise UrlNotAllowed("an address with a zone is not allowed")
    return address


def _check_name(host: str, policy: Policy) -> None:
    labels = host.split(".")
    if len(host) > 253 or not all(map(_LABEL.match, labels)):
        raise UrlNotAllowed("the host is not a valid name")
    if labels[-1] == "localhost":  # RFC 6761, section 6.3: always loopback, whatever a name server says
        check_address(LOOPBACK, policy)


def _listed(host: str, entry: str) -> bool:
    return host.endswith(entry) if entry.startswith(".") else host == entry.strip("[]")
