"""Verification of servers, and what is wrong with a certificate in words."""

import ssl
from functools import lru_cache

# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_EXPIRED, _NOT_YET = 10, 9
_SELF_SIGNED = 18
_UNKNOWN_ISSUER = frozenset({2, 19, 20, 21})
_OTHER_HOST = frozenset({62, 64})

# Stated, for the defaults differ: from Python 3.13 on they demand key identifiers, which many an in-house authority
# leaves out, and accept an intermediate authority as the root of trust.
VERIFY_FLAGS = ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST | ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN


@lru_cache(maxsize=1)
def trusting_system() -> ssl.SSLContext:
    """Trusts the authorities of the system, or those that SSL_CERT_FILE and SSL_CERT_DIR name."""
    return verifying(ssl.create_default_context())


def verifying(context: ssl.SSLContext) -> ssl.SSLContext:
    """The context with the same rules on every Python."""
    context.verify_flags = VERIFY_FLAGS
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def complaint(failure: ssl.SSLError) -> str:
    """A sentence without the host or the URL."""
    if not isinstance(failure, ssl.SSLCertVerificationError):
        return "the TLS handshake failed"
    code = failure.verify_code
    if code == _EXPIRED:
        return "the TLS certificate has expired"
    if code == _NOT_YET:
        return "the TLS certificate is not valid yet"
    if code == _SELF_SIGNED:
        return "the TLS certificate is self-signed, and not trusted here"
    if code in _UNKNOWN_ISSUER:
        return "the TLS certificate comes from an authority that is not trusted here"
    if code in _OTHER_HOST:
        return "the TLS certificate is for another host"
    return "the TLS certificate is not valid"
