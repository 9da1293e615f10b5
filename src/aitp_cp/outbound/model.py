"""Policies, targets, replies, and the two ways of not getting a reply."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Refused(Exception):
    """The guard refuses a destination: trying again is pointless. The text is safe to show."""


class Unreachable(Exception):
    """No response this time; the text is short and holds neither secrets nor URLs."""


@dataclass(frozen=True, slots=True)
class Policy:
    """`allowlist` holds hosts or `.suffixes`, empty for any; `allowed_cidrs` are exempt from the address check."""

    production: bool
    allowlist: tuple[str, ...] = ()
    allowed_cidrs: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that passed every check without a name server; `literal` is its host if that is an address.

    `path` is path and query as they were registered, `authority` the value of the Host header.
    """

    scheme: str
    host: str
    port: int
    literal: Address | None
    authority: str
    path: str


@dataclass(frozen=True, slots=True)
class Reply:
    """Header names are lowercase; `complete` is false when a limit, the deadline or the peer cut the body short."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool
