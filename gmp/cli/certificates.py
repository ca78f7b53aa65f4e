"""A private certificate authority and certificates signed by it (extra ``tls``: cryptography).

``ca.pem`` holds the authority's key and certificate and stays where it was made. Each node gets one file with its key, its
certificate and the authority's certificate: that is its setting ``cert``. Elliptic curve P-256 throughout, which every TLS
1.2 and 1.3 knows, Perl's too. A certificate names its node; it also allows the IDs of commands (``cli/…``), so that the
node's profile serves them too when the setting ``cert_names`` is on.
"""

from __future__ import annotations

import datetime
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gmp
from gmp.cli.common.access import COMMANDS
from gmp.cli.common.failures import Failure
from gmp.config import SEED_MARK

BACKDATED = datetime.timedelta(hours=1)  # clocks differ
MOST_NAME = 64  # characters of a common name
OTHER_USES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
    "key_agreement", "encipher_only", "decipher_only",
)


@dataclass
class Seen:
    """The contents of a certificate."""

    names: list[str]
    issuer: str
    begins: datetime.datetime
    ends: datetime.datetime
    fingerprint: str
    authority: bool

    @property
    def days_left(self) -> float:
        """Days until it expires; negative once it has."""
        return (self.ends - datetime.datetime.now(datetime.UTC)).total_seconds() / 86400


class Authority:
    """The key and certificate that sign the others."""

    def __init__(self, pem: bytes, where: Path) -> None:
        x509, _, _, serialization = _cryptography()
        try:
            self._key = serialization.load_pem_private_key(pem, None)
            self._certificate = x509.load_pem_x509_certificate(pem)
        except (ValueError, TypeError) as error:
            raise gmp.ConfigError(f"{where}: expected a PEM text with an authority's key and certificate: {error}") from None

    @classmethod
    def load(cls, path: Path) -> Authority:
        """Load the authority from its file. *Raises:* `ConfigError`."""
        try:
            return cls(path.read_bytes(), path)
        except OSError as error:
            raise gmp.ConfigError(f"authority {path}: {error}") from error

    def issue(self, name: str, days: int, *, seed: bool = False) -> bytes:
        """Make a key and a certificate for the node `name`, and add the authority's; `seed`: mark it as a seed's."""
        x509, hashes, ec, _ = _cryptography()
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.UniformResourceIdentifier(each) for each in (name, COMMANDS, *((SEED_MARK,) if seed else ()))]
        certificate = (
            _builder(name, self._certificate.subject, key.public_key(), days)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._certificate.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        return _key_pem(key) + _certificate_pem(certificate) + _certificate_pem(self._certificate)


def make_authority(days: int) -> bytes:
    """Make the key and certificate of a new authority."""
    x509, hashes, ec, _ = _cryptography()
    key = ec.generate_private_key(ec.SECP256R1())
    name = f"gmp authority {secrets.token_hex(4)}"
    usage = {"key_cert_sign": True, "crl_sign": True, **dict.fromkeys(OTHER_USES, False)}
    certificate = (
        _builder(name, _name(name), key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _key_pem(key) + _certificate_pem(certificate)


def read_certificates(pem: bytes) -> list[Seen]:
    """Return the certificates in a PEM text. *Raises:* `ValueError` if there are none."""
    x509, hashes, _, _ = _cryptography()
    return [_seen(x509, hashes, certificate) for certificate in x509.load_pem_x509_certificates(pem)]


def _seen(x509: Any, hashes: Any, certificate: Any) -> Seen:
    extensions = certificate.extensions
    try:
        names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.UniformResourceIdentifier
        ))
    except x509.ExtensionNotFound:
        names = []
    try:
        authority = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        authority = False
    return Seen(
        names or [_common_name(x509, certificate.subject)],
        _common_name(x509, certificate.issuer),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        certificate.fingerprint(hashes.SHA256()).hex(":")[:29],
        authority,
    )


def _common_name(x509: Any, name: Any) -> str:
    found = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()


def _name(text: str) -> Any:
    x509, *_ = _cryptography()
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text[:MOST_NAME])])


def _builder(name: str, issuer: Any, key: Any, days: int) -> Any:
    x509, *_ = _cryptography()
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_pem(key: Any) -> bytes:
    *_, serialization = _cryptography()
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem


def _certificate_pem(certificate: Any) -> bytes:
    *_, serialization = _cryptography()
    pem: bytes = certificate.public_bytes(serialization.Encoding.PEM)
    return pem


def write_private(path: Path, data: bytes, *, replace: bool) -> None:
    """Write a file that only its owner can read. *Raises:* `ConfigError`, also if it exists and may not be replaced."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            (os.replace if replace else os.link)(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        raise gmp.ConfigError(f"{path} is there already: --force replaces it") from None
    except OSError as error:
        raise gmp.ConfigError(f"{path}: {error}") from error


def _cryptography() -> tuple[Any, Any, Any, Any]:
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise Failure("certificates need cryptography: install gevent-mp[tls], in a clone '.[cli,tls]'") from None
    return x509, hashes, ec, serialization
