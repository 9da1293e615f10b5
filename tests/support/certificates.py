"""A certificate authority that nobody trusts, and a server certificate signed by it."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Made:
    server: ssl.SSLContext
    authority: Path


def server_certificate(
    folder: Path, host: str, *, days: int = 1, self_signed: bool = False, key_ids: bool = True
) -> Made:
    """A server context for `host`, and the file a client would have to trust.

    The certificate ends in `days`, or has ended. Without `key_ids` neither certificate names a key, as of many in-house
    authorities.
    """
    root, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    names = x509.SubjectAlternativeName([x509.DNSName(host)])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    authority = (
        _begun(issuer, issuer, root.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
    )
    server = _begun(subject, subject if self_signed else issuer, key.public_key(), days)
    server = server.add_extension(names, critical=False)
    if key_ids:
        own = x509.SubjectKeyIdentifier.from_public_key(root.public_key())
        theirs = x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key())
        authority = authority.add_extension(own, critical=False)
        server = server if self_signed else server.add_extension(theirs, critical=False)
    paths = folder / "authority.pem", folder / "server.pem"
    paths[0].write_bytes(authority.sign(root, hashes.SHA256()).public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    signer = key if self_signed else root
    paths[1].write_bytes(private + server.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(paths[1])
    return Made(context, paths[0])


def _begun(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int = 1
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=days))
    )
