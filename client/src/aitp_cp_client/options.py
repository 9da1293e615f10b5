"""Timeouts, retries, and the addresses of the control plane and the proxy."""

import ipaddress
import random
from dataclasses import dataclass
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from aitp_cp_client.errors import CUT_SHORT, PASSING, UNREACHABLE, ControlPlaneError

IN_FLIGHT = "IDEMPOTENCY_IN_FLIGHT"
CONFLICT = "CONFLICT"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to connect, to receive a whole response, and between two chunks of an export or a stream.

    `silence_secs` must be longer than the server's heartbeat (15 s by default).
    """

    connect_secs: float = 5.0
    answer_secs: float = 30.0
    silence_secs: float = 60.0


@dataclass(frozen=True, slots=True)
class Retries:
    """The number of retries where they are safe. A longer wait than `longest_wait_secs` fails the call."""

    times: int = 3
    longest_wait_secs: float = 30.0
    first_wait_secs: float = 0.2

    def wait(self, failed: ControlPlaneError, *, repeatable: bool, attempt: int) -> float | None:
        """Return the seconds until the next attempt, or None for no retry; `attempt` counts from 0."""
        if attempt >= self.times or not _is_retryable(failed, repeatable):
            return None
        secs = failed.retry_after
        if secs is None:
            secs = self.first_wait_secs * 2.0**attempt * random.uniform(0.75, 1.25)  # noqa: S311 - spreads clients
        return secs if secs <= self.longest_wait_secs else None


def _is_retryable(failed: ControlPlaneError, repeatable: bool) -> bool:
    """Return whether a retry may help and is safe: a request refused with 429 has had no effect."""
    if failed.status == 429:
        return True
    return repeatable and (failed.status in PASSING or failed.code in {UNREACHABLE, CUT_SHORT, IN_FLIGHT, CONFLICT})


def bearer(key: str) -> str:
    """Return the Authorization value of an API key; raise `ValueError` without repeating the key."""
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ValueError("the API key holds characters that are not allowed in a header")
    return f"Bearer {key}"


def base_url(text: str) -> URL:
    """Parse the URL of a control plane; raise `ValueError` without repeating it."""
    try:
        url = URL(text.rstrip("/"))
    except ValueError:
        raise ValueError("the control plane's URL cannot be parsed") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("the control plane's URL must begin with http:// or https:// and name a host")
    if url.user is not None or url.password is not None or url.query_string or url.fragment:
        raise ValueError("the control plane's URL must hold no credentials, query or fragment")
    return url


def proxy_of_environment(url: URL) -> URL | None:
    """Return the proxy of `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`; None for loopback addresses.

    The server uses no proxy: it must connect to exactly the address that it checked.
    """
    host = url.host or ""
    proxy = getproxies().get(url.scheme)
    if not proxy or _is_loopback(host) or proxy_bypass(host):
        return None
    try:
        proxy_url = URL(proxy if "://" in proxy else f"http://{proxy}")
    except ValueError:
        raise ValueError("the proxy of the environment cannot be parsed") from None
    if proxy_url.scheme not in {"http", "https"} or not proxy_url.host:
        raise ValueError("the proxy of the environment is neither http nor https")
    return proxy_url


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
