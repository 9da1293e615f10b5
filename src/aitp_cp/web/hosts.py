"""Which host names a request may address, and which pages may use a gate that no key closes.

A page in a developer's browser reaches whatever listens on his machine: by a name of its own that it points at
127.0.0.1 (then `Host` shows that name), or directly (then `Origin` shows the page).
"""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from aitp_cp.errors import CrossSiteRefused, HostUnknown, OriginNotAllowed
from aitp_cp.setting_rules import ANY, origin
from aitp_cp.settings import Settings
from aitp_cp.web.endpoint import CONSOLE

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/?#@\[\]]+)(?::[0-9]*)?\Z")


class HostRule:
    """What one process answers for. `active` is whether `Host` is looked at at all.

    It is under `dev`, where `ALLOWED_HOSTS` is empty and not unset; wherever that is set; and on a loopback address
    whose gate is open. Loopback names, the host of `CP_BASE_URL` and those of `ALLOWED_HOSTS` are known. A server that
    others can reach also answers for addresses and for names without a dot: no stranger's page can bear one of those.
    The console answers for known names only, wherever it runs; with `CONSOLE_ORIGIN` for that one, and nothing else
    does.
    """

    def __init__(self, settings: Settings) -> None:
        listed = settings.allowed_hosts or ()
        local = is_loopback(_bare(settings.host))
        gate_open = not settings.production and not settings.api_keys
        self.active = ANY not in listed and (settings.allowed_hosts is not None or (gate_open and local))
        self._any = ANY in listed
        self._console = name_in(urlsplit(settings.console_origin).netloc) if settings.console_origin else None
        self._exact = {_bare(host) for host in listed} | {_bare(urlsplit(settings.cp_base_url).hostname or "")}
        self._suffixes = tuple(host for host in listed if host.startswith("."))
        self._reached_from_outside = not local
        self._origins = frozenset(settings.cors_origin or ()) - {"*"}
        self._own_origin = settings.console_origin or _origin_of(settings.cp_base_url)

    def applies_to(self, path: str) -> bool:
        """Return whether a request for this path may be refused for its `Host`."""
        return self.active or self._console is not None or path.startswith(CONSOLE)

    def check_host(self, path: str, headers: Headers) -> None:
        """Raise `HostUnknown` for a name that this server does not answer for; no browser leaves `Host` out."""
        if not all(self._answers(name_in(host), path) for host in headers.getlist("host")):
            raise HostUnknown

    def check_own_page(self, headers: Headers) -> None:
        """Raise `CrossSiteRefused` unless a browser says that a page of the console sends the request.

        `Sec-Fetch-Site` decides. Browsers leave it out on plain HTTP, and old ones always: then `Origin` must be ours.
        """
        site, sender = headers.getlist("sec-fetch-site"), headers.getlist("origin")
        if site:
            if site == ["same-origin"]:
                return
        elif sender == [self._own_origin] or (len(sender) == 1 and _is_local(sender[0], headers)):
            return
        raise CrossSiteRefused

    def check_origin(self, headers: Headers) -> None:
        """Raise `OriginNotAllowed` when a page of another site uses the open gate; without `Origin` it is no page."""
        origin = headers.get("origin")
        if origin is None or origin in self._origins:
            return
        _, _, authority = origin.partition("://")
        name = name_in(authority)
        if name is not None and (self._known(name) or (_nobodys(name) and authority == headers.get("host"))):
            return
        raise OriginNotAllowed

    def _answers(self, name: str | None, path: str) -> bool:
        of_console = path.startswith(CONSOLE)
        if self._console is not None:
            if path != "/" and of_console != (name == self._console):
                return False
            if name == self._console:
                return True
        if self._any or not (self.active or of_console):
            return True
        return name is not None and (self._known(name) or (self._reached_from_outside and _nobodys(name)))

    def _known(self, name: str) -> bool:
        return is_loopback(name) or name in self._exact or name.endswith(self._suffixes)


def name_in(authority: str) -> str | None:
    """Return the host of `host:port` in its one spelling; None when it is none."""
    match = _HOST.match(authority)
    return _bare(match[1]) if match else None


def is_loopback(name: str) -> bool:
    """Return whether the name means this machine, with any resolver (RFC 6761)."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _nobodys(name: str) -> bool:
    """Whether no one can make the name resolve to another address: an address itself, or a name without a dot."""
    try:
        ip_address(name)
    except ValueError:
        return "." not in name
    return True


def _is_local(sender: str, headers: Headers) -> bool:
    """Return whether a page on this machine sends the request to the server that it came from."""
    host = headers.get("host", "")
    return sender == f"http://{host}" and is_loopback(name_in(host) or "")


def _origin_of(base_url: str) -> str:
    parts = urlsplit(base_url)
    return origin(f"{parts.scheme}://{parts.netloc}")


def _bare(host: str) -> str:
    return host.lower().removeprefix("[").removesuffix("]").removesuffix(".")
