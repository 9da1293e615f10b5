"""URLs of identity providers, from an administrator or a discovery document."""

import re

from aitp_cp.errors import AppError
from aitp_cp.outbound import parse_url
from aitp_cp.truststore.model import MAX_URL

DISCOVERY_PATH = "/.well-known/openid-configuration"
_CREDENTIALS = re.compile(r"^([^/?#]*//)[^/?#]*@")


def complaint(url: str) -> str | None:
    """Return what is wrong with a URL, as the rest of a sentence; None for an absolute http(s) URL without credentials.

    The same syntax as a webhook's URL. The destination is checked with each request.
    """
    if len(url) > MAX_URL:
        return f"is longer than {MAX_URL} characters"
    try:
        usable = parse_url(url).port
    except AppError:
        authority = url.partition("//")[2].partition("/")[0]
        return "holds credentials" if "@" in authority else "is not an absolute http or https URL"
    return None if usable else "names port 0"


def discovery_url(issuer_url: str) -> str:
    """Return the URL of an issuer's configuration (OpenID Connect Discovery 1.0, section 4)."""
    return issuer_url.rstrip("/") + DISCOVERY_PATH


def without_credentials(url: str) -> str:
    """Return the URL without user and password, which an older control plane let in."""
    return _CREDENTIALS.sub(r"\1", url)
