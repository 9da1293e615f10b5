"""URLs of identity providers, as an administrator or a discovery document gives them."""

import re
from urllib.parse import urlsplit

from aitp_cp.truststore.model import MAX_URL

# What RFC 3986 allows in a URL at all.
_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+\Z")
DISCOVERY_PATH = "/.well-known/openid-configuration"


def complaint(url: str) -> str | None:
    """Why this is no absolute http(s) URL without credentials, as the rest of a sentence; None when it is one."""
    if len(url) > MAX_URL:
        return f"is longer than {MAX_URL} characters"
    try:
        parts = urlsplit(url) if _CHARACTERS.match(url) else None
        usable = parts is not None and parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        return "is not a URL"
    if parts is None or not usable:
        return "is not an absolute http or https URL"
    return "holds credentials" if "@" in parts.netloc else None


def discovery_url(issuer_url: str) -> str:
    """Where OpenID Connect Discovery 1.0, section 4, puts an issuer's configuration."""
    return issuer_url.rstrip("/") + DISCOVERY_PATH
