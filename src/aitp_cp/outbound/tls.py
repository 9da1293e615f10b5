"""Verification of servers, and what is wrong with a certificate in words."""

import ssl
from functools import lru_cache

_UNKNOWN_ISSUER = "the TLS certificate comes from an authority that is not trusted here"
_OTHER_HOST = "the TLS certificate is for another host"
# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_COMPLAINTS = {
    10: "the TLS certificate has expired",
    9: "the TLS certificate is not valid yet",
    18: "the TLS certificate is self-signed, and not trusted here",
    **dict.fromkeys((2, 19, 20, 21), _UNKNOWN_ISSUER),
    **dict.fromkeys((62, 64), _OTHER_HOST),
}

# Set here because the defaults differ: from Python 3.13 on they demand key identifiers, which many in-house authorities
# leave out, and accept an intermediate authority as the root of trust.
VERIFY_FLAGS = ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST | ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN


@lru_cache(maxsize=1)
def trusting_system() -> ssl.SSLContext:
    """Return a context that trusts the system's authorities, or those that SSL_CERT_FILE and SSL_CERT_DIR name."""
    return verifying(ssl.create_default_context())


def verifying(context: ssl.SSLContext) -> ssl.SSLContext:
    """Give the context the same rules on every Python."""
    context.verify_flags = VERIFY_FLAGS
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def complaint(failure: ssl.SSLError) -> str:
    """Return a sentence without the host or the URL."""
    if not isinstance(failure, ssl.SSLCertVerificationError):
        return "the TLS handshake failed"
    return _COMPLAINTS.get(failure.verify_code, "the TLS certificate is not valid")
