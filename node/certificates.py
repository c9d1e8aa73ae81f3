"""A small certificate authority for one cluster: its own key, and one certificate a node.

Everything lies in one folder: `ca.pem` and `ca-key.pem`, and for each node `<id>.pem` and `<id>-key.pem`.
A node needs `ca.pem` and its own two files; `ca-key.pem` can make a member of anybody and stays where it is.
Certificates follow RFC 5280; whom one names is written as consensus/tls.py reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from consensus.tls import CredentialFiles, member_uri
from node import limits
from node.key_files import write_key_file

_AUTHORITY = "ca"
_BACKDATED = timedelta(days=1)
"""A certificate is valid from a day before it was made. A node that is restored with a clock hours behind
must come up, also with one that was just renewed; that a certificate does not hold yet protects nothing,
since its key is no older. How long it holds, which does protect, counts from when it was made."""


class CertificatesFailed(Exception):
    """The certificates cannot be made; the message says why and names the file, never what is in it."""


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when a certificate holds."""

    not_before: datetime
    not_after: datetime

    @classmethod
    def days(cls, days: int) -> Validity:
        now = datetime.now(UTC)
        return cls(now - _BACKDATED, now + timedelta(days=days))


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and the private key that belongs to it."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey

    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def new_authority(cluster: str, validity: Validity) -> Issued:
    """A self-signed certificate that may sign those of nodes, and no other authority's."""
    key = generate_private_key(SECP256R1())
    name = _name("certificate authority", cluster)
    builder = (
        _builder(name, name, key, validity)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
    )
    return Issued(builder.sign(key, SHA256()), key)


def new_member(authority: Issued, cluster: str, node_id: str, validity: Validity) -> Issued:
    """The certificate of one node, for both ends of a link; it holds no longer than its authority."""
    key = generate_private_key(SECP256R1())
    issuer = authority.certificate
    validity = Validity(validity.not_before, min(validity.not_after, issuer.not_valid_after_utc))
    identity = x509.UniformResourceIdentifier(member_uri(cluster, node_id))
    both_ends = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        _builder(_name("node", node_id), issuer.subject, key, validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both_ends), critical=False)
        .add_extension(issuer_key, critical=False)
        .add_extension(x509.SubjectAlternativeName([identity]), critical=False)
    )
    return Issued(builder.sign(authority.key, SHA256()), key)


def credential_files(folder: Path, node_id: str) -> CredentialFiles:
    """Where a node's files lie in a folder of certificates."""
    return CredentialFiles(
        authority=folder / f"{_AUTHORITY}.pem",
        certificate=folder / f"{node_id}.pem",
        key=folder / f"{node_id}-key.pem",
    )


def create(folder: Path, cluster: str, node_ids: Sequence[str], days: int) -> list[str]:
    """Make what is missing: the authority, and a certificate for each node that has none.

    Returns the nodes that got one. Raises CertificatesFailed, also when the folder is another cluster's.
    """
    if _AUTHORITY in node_ids:
        raise CertificatesFailed(f"no node can be named {_AUTHORITY!r}: the authority's files are")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        files = credential_files(folder, _AUTHORITY)
        if not files.certificate.exists() and not files.key.exists():
            write(files, new_authority(cluster, Validity.days(limits.AUTHORITY_VALID_DAYS)))
        authority = read_authority(folder, cluster)
        made = [each for each in node_ids if not credential_files(folder, each).certificate.exists()]
        for node_id in made:
            issued = new_member(authority, cluster, node_id, Validity.days(days))
            write(credential_files(folder, node_id), issued)
    except OSError as error:
        raise CertificatesFailed(f"{error.filename or folder}: {error.strerror}") from error
    return made


def renew(folder: Path, cluster: str, node_ids: Sequence[str], days: int, *, within_days: int) -> list[str]:
    """Give each of these nodes that has at most `within_days` left a new key and certificate.

    Running nodes take them up by themselves. Returns the nodes that got one. Raises CertificatesFailed.
    """
    renewed: list[str] = []
    try:
        authority = read_authority(folder, cluster)
        for node_id in node_ids:
            files = credential_files(folder, node_id)
            left = _read_certificate(files.certificate).not_valid_after_utc - datetime.now(UTC)
            if left <= timedelta(days=within_days):
                write(files, new_member(authority, cluster, node_id, Validity.days(days)))
                renewed.append(node_id)
    except OSError as error:
        raise CertificatesFailed(f"{error.filename or folder}: {error.strerror}") from error
    return renewed


def write(files: CredentialFiles, issued: Issued) -> None:
    """The key first. A node that looks in between keeps what it has (consensus/tls.py)."""
    write_key_file(files.key, issued.key_pem())
    write_key_file(files.certificate, issued.certificate_pem())


def _read_certificate(path: Path) -> x509.Certificate:
    """The first certificate of a file. Raises OSError and CertificatesFailed."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise CertificatesFailed(f"{path} holds no PEM certificate that can be read") from error


def read_authority(folder: Path, cluster: str) -> Issued:
    """Raises OSError and CertificatesFailed."""
    files = credential_files(folder, _AUTHORITY)
    certificate = _read_certificate(files.certificate)
    try:
        key = load_pem_private_key(files.key.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise CertificatesFailed(f"{files.key} is not an unencrypted PEM private key") from error
    if not isinstance(key, EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise CertificatesFailed(f"{files.key} is not the key of {files.certificate}")
    if certificate.subject != _name("certificate authority", cluster):
        raise CertificatesFailed(f"{files.certificate} is not the authority of cluster {cluster!r}")
    return Issued(certificate, key)


def _name(role: str, of: str) -> x509.Name:
    """For people only; what is checked is the subject alternative name."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Stele"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role),
            x509.NameAttribute(NameOID.COMMON_NAME, of),
        ]
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, validity: Validity
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.not_before)
        .not_valid_after(validity.not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
