"""What can be said about a URL without asking a name server."""

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
    """The policy for webhooks (contract, section 12)."""
    return Policy(settings.production, settings.webhook_url_allowlist, settings.webhook_allowed_cidrs)


@lru_cache(maxsize=1024)
def check_url(text: str, policy: Policy) -> Target:
    """The destination of a URL; raises `BodyInvalid` when it is none and `UrlNotAllowed` when it may not be used."""
    url = parse_url(text)
    _check_scheme(url, policy)
    host = (url.raw_host or "").lower().removesuffix(".")
    literal = _literal(host)
    if literal is None:
        _check_name(host, policy)
    _check_allowlist(host, policy)
    if literal is not None:
        check_address(literal, policy)
        host = str(literal)
    return Target(
        url.scheme, host, _port(url), literal, url.with_host(host).host_port_subcomponent or host, _path(text)
    )


def origin_of(text: str) -> str | None:
    """Scheme, host and port of a stored URL, without the port where it is the scheme's own; None of what is no URL."""
    try:
        return str(URL(text).origin())
    except ValueError:
        return None


def check_address(address: Address, policy: Policy) -> None:
    """Raises `UrlNotAllowed` unless the address is global unicast or in an allowed network."""
    kind = forbidden(address, policy.allowed_cidrs)
    if kind is not None:
        raise UrlNotAllowed(f"the URL leads to {kind}")


def parse_url(text: str) -> URL:
    """An absolute http(s) URL without credentials; raises `BodyInvalid` or `UrlNotAllowed`."""
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
    """Byte for byte, for a signature may cover it; only what is not ASCII is encoded. A fragment is not sent."""
    match = _AUTHORITY.match(text)
    assert match is not None  # a URL without `//` has no host
    path = text[match.end() :].partition("#")[0]
    return _NOT_ASCII.sub(lambda found: quote(found[0], safe=""), path if path.startswith("/") else f"/{path}")


def _check_scheme(url: URL, policy: Policy) -> None:
    if policy.production and url.scheme != "https":
        raise UrlNotAllowed("only https URLs are allowed in production")


def _port(url: URL) -> int:
    if not url.port:
        raise UrlNotAllowed("port 0 is not allowed")
    return url.port


def _literal(host: str) -> Address | None:
    """The address that a host is; raises `UrlNotAllowed` for every spelling but the plain one."""
    if ":" in host:
        return _plain(host)
    if _NUMBER.match(host.rpartition(".")[2]):  # what makes a host an IPv4 address in the URL standard
        return _plain(host)
    return None


def _plain(host: str) -> Address:
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


def _check_allowlist(host: str, policy: Policy) -> None:
    if policy.allowlist and not any(_listed(host, entry.lower().removesuffix(".")) for entry in policy.allowlist):
        raise UrlNotAllowed("the host is not on the allowlist")


def _listed(host: str, entry: str) -> bool:
    return host.endswith(entry) if entry.startswith(".") else host == entry.strip("[]")
