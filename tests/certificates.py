"""Certificates for tests, made here and now: self-signed ones, and an authority with a certificate per node."""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _key_pem(key: Key) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _make(
    subject: str, issuer: str, key: Key, signer: Key, *, authority: bool, names: tuple[str, ...] = (), days: int = 1
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if names:
        alternative = [x509.UniformResourceIdentifier(name) for name in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternative), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _cert_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def self_signed(name: str = "gmp", *, days: int = 1) -> str:
    """Key and certificate in one PEM text, for all nodes to share."""
    key = ec.generate_private_key(ec.SECP256R1())
    return _key_pem(key) + _cert_pem(_make(name, name, key, key, authority=True, days=days))


class Authority:
    """Signs a certificate for each node."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = _cert_pem(_make("authority", "authority", self._key, self._key, authority=True))

    def issue(self, name: str, *names: str) -> str:
        """Key, certificate and the authority's certificate in one PEM text."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _make(name, "authority", key, self._key, authority=False, names=names)
        return _key_pem(key) + _cert_pem(certificate) + self.certificate
