"""How long to wait, how often to try again, and which way to go."""

import ipaddress
import random
from dataclasses import dataclass
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from aitp_cp_client.errors import CUT_SHORT, UNREACHABLE, ControlPlaneError

PASSING = frozenset({429, 502, 503, 504})
IN_FLIGHT = "IDEMPOTENCY_IN_FLIGHT"
CONFLICT = "CONFLICT"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds: to be connected, to have a whole answer, and between two pieces of an export or a stream.

    The last one must be longer than the server's heartbeat, which is 15 s unless an operator set another.
    """

    connect_secs: float = 5.0
    answer_secs: float = 30.0
    silence_secs: float = 60.0


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is tried again where that is safe; a longer wait than this is the caller's to decide on."""

    times: int = 3
    longest_wait_secs: float = 30.0
    first_wait_secs: float = 0.2

    def wait(self, failed: ControlPlaneError, *, repeatable: bool, attempt: int) -> float | None:
        """Seconds until the next attempt, or None when there is to be none; `attempt` counts from 0."""
        if attempt >= self.times or not _passes(failed, repeatable):
            return None
        secs = failed.retry_after
        if secs is None:
            secs = self.first_wait_secs * 2.0**attempt * random.uniform(0.75, 1.25)  # noqa: S311 - spreads clients
        return secs if secs <= self.longest_wait_secs else None


def _passes(failed: ControlPlaneError, repeatable: bool) -> bool:
    """Whether trying again may help and cannot do harm: what was refused for its rate has had no effect."""
    if failed.status == 429:
        return True
    return repeatable and (failed.status in PASSING or failed.code in {UNREACHABLE, CUT_SHORT, IN_FLIGHT, CONFLICT})


def bearer(key: str) -> str:
    """The API key as a header carries it; raises `ValueError` that does not repeat it."""
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ValueError("the API key holds characters that a header cannot carry")
    return f"Bearer {key}"


def base_url(text: str) -> URL:
    """The address of a control plane, possibly under a path; raises `ValueError` that does not repeat it."""
    try:
        url = URL(text.rstrip("/"))
    except ValueError:
        raise ValueError("the control plane's URL cannot be read") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("the control plane's URL must begin with http:// or https:// and name a host")
    if url.user is not None or url.password is not None or url.query_string or url.fragment:
        raise ValueError("the control plane's URL must hold no credentials, query or fragment")
    return url


def proxy_of_environment(url: URL) -> URL | None:
    """The proxy that `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` name; never one for this machine itself.

    Unlike the server, which must reach exactly the address it checked, this goes where its operator sent it.
    """
    host = url.host or ""
    proxy = getproxies().get(url.scheme)
    if not proxy or _is_loopback(host) or proxy_bypass(host):
        return None
    try:
        found = URL(proxy if "://" in proxy else f"http://{proxy}")
    except ValueError:
        raise ValueError("the proxy that the environment names cannot be read") from None
    if found.scheme not in {"http", "https"} or not found.host:
        raise ValueError("the proxy that the environment names is neither http nor https")
    return found


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
