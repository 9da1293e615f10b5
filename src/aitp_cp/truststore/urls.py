"""URLs of identity providers, as an administrator or a discovery document gives them."""

from aitp_cp.errors import AppError
from aitp_cp.outbound import parse_url
from aitp_cp.truststore.model import MAX_URL

DISCOVERY_PATH = "/.well-known/openid-configuration"


def complaint(url: str) -> str | None:
    """Why this is no absolute http(s) URL without credentials, as the rest of a sentence; None when it is one.

    The same syntax as a webhook's URL. Where it leads is checked with each request.
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
    """Where OpenID Connect Discovery 1.0, section 4, puts an issuer's configuration."""
    return issuer_url.rstrip("/") + DISCOVERY_PATH
