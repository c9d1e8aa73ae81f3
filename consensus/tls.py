"""Mutual TLS between members: contexts from three files that may change, and whom a certificate names.

A member's identity is a URI in its certificate's subject alternative name, `urn:stele:<cluster>:node:<id>`
(docs/adr/0006-mutual-tls-between-nodes.md). TLS proves that the other end holds a key that the cluster's
authority certified; whose key that is, the two ends of a link compare with the membership (links.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consensus.errors import CredentialsInvalid, IdentityRefused

logger = logging.getLogger(__name__)

_PREFIX = "urn:stele:"
_HANDSHAKE_FLIGHTS = 3
"""Of TLS 1.3 (RFC 8446, section 2): ClientHello; ServerHello to Finished; certificate to Finished."""
_READABLE_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def member_uri(cluster: str, node_id: str) -> str:
    """The identity of a member. Neither name holds a colon (node/config.py), so no two members share one."""
    return f"{_PREFIX}{cluster}:node:{node_id}"


def certified_uri(transport: asyncio.BaseTransport) -> str:
    """The member that the other end's verified certificate names.

    Raises IdentityRefused when there is no such certificate, or when it does not name exactly one.
    """
    return _only_member_uri(transport.get_extra_info("peercert") or {})


def _only_member_uri(certificate: Mapping[str, Any]) -> str:
    """From a certificate as ssl.SSLSocket.getpeercert gives it."""
    names = certificate.get("subjectAltName", ())
    uris = [value for kind, value in names if kind == "URI" and value.startswith(_PREFIX)]
    if len(uris) != 1:
        raise IdentityRefused(f"its certificate names {len(uris)} members, not one")
    return str(uris[0])


@dataclass(frozen=True, slots=True)
class CredentialFiles:
    """PEM files of one member. `authority` may hold several certificates while an authority is replaced."""

    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class _Contexts:
    server: ssl.SSLContext
    client: ssl.SSLContext
    not_after_s: float


_Fingerprint = tuple[tuple[int, int, int], ...]


class MutualTls:
    """The TLS of one member. A connection made after a file has changed uses what it holds by then.

    Files that cannot be used when they change are reported once, and the former ones stay in use: an
    operator who replaces key and certificate one after the other passes through such a moment.
    Raises CredentialsInvalid when the files cannot be used to begin with.
    """

    def __init__(self, files: CredentialFiles, *, cluster: str, node_id: str) -> None:
        self._files = files
        self._own_uri = member_uri(cluster, node_id)
        # Before the files are read: a change in between is then seen at the next look.
        self._seen = self._fingerprint()
        self._contexts = _load(files, self._own_uri)

    def server_context(self) -> ssl.SSLContext:
        return self._current().server

    def client_context(self) -> ssl.SSLContext:
        return self._current().client

    @property
    def not_after_s(self) -> float:
        """When this member's certificate expires, in seconds since 1970."""
        return self._contexts.not_after_s

    def _current(self) -> _Contexts:
        fingerprint = self._fingerprint()
        if fingerprint != self._seen:
            self._seen = fingerprint
            try:
                self._contexts = _load(self._files, self._own_uri)
            except CredentialsInvalid as error:
                logger.warning("the certificate in use stays, because the new one cannot be used: %s", error)
            else:
                logger.info("new certificate from %s", self._files.certificate)
        return self._contexts

    def _fingerprint(self) -> _Fingerprint:
        """What changes when a file is written or replaced; empty while one of them is missing."""
        try:
            found = [
                path.stat() for path in (self._files.authority, self._files.certificate, self._files.key)
            ]
        except OSError:
            return ()
        return tuple((each.st_mtime_ns, each.st_ino, each.st_size) for each in found)


def _load(files: CredentialFiles, own_uri: str) -> _Contexts:
    _check_private(files.key)
    server = _context(ssl.PROTOCOL_TLS_SERVER, files)
    # Without tickets no session is resumed: every connection verifies the certificate of its own day.
    server.num_tickets = 0
    client = _context(ssl.PROTOCOL_TLS_CLIENT, files)
    certificate = _try_out(server, client, files)
    try:
        found_uri = _only_member_uri(certificate)
    except IdentityRefused as error:
        raise CredentialsInvalid(f"{files.certificate}: {error}") from error
    if found_uri != own_uri:
        raise CredentialsInvalid(f"{files.certificate} is the certificate of {found_uri}, not of {own_uri}")
    return _Contexts(server, client, ssl.cert_time_to_seconds(certificate["notAfter"]))


def _check_private(key: Path) -> None:
    try:
        mode = key.stat().st_mode
    except OSError as error:
        raise CredentialsInvalid(f"{key} cannot be read: {error.strerror}") from error
    if mode & _READABLE_BY_OTHERS:
        raise CredentialsInvalid(f"{key} is open to others (mode {stat.S_IMODE(mode):04o}); make it 0600")


def _context(protocol: int, files: CredentialFiles) -> ssl.SSLContext:
    """TLS 1.3 only (RFC 8446), a certificate from both sides, and no authority but the cluster's."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # A member is named by a URI, not by the host it runs on.
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    for path in (files.authority, files.certificate, files.key):
        if not path.is_file():
            raise CredentialsInvalid(f"{path} is not a file")
    try:
        context.load_verify_locations(files.authority)
    except OSError as error:  # ssl.SSLError is one.
        raise CredentialsInvalid(f"{files.authority} holds no PEM certificate that can be read") from error
    try:
        context.load_cert_chain(files.certificate, files.key, password=_refuse_password)
    except OSError as error:
        raise CredentialsInvalid(
            f"{files.certificate} and {files.key} are not a PEM certificate and its private key"
        ) from error
    return context


def _refuse_password() -> str:
    """For an encrypted key OpenSSL would ask on the terminal."""
    raise CredentialsInvalid("the private key is encrypted; a node needs one without a passphrase")


def _try_out(server: ssl.SSLContext, client: ssl.SSLContext, files: CredentialFiles) -> dict[str, Any]:
    """One handshake in memory between the two: what every other member will say of these files.

    Returns this member's certificate. Raises CredentialsInvalid.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_end = client.wrap_bio(to_client, to_server)
    server_end = server.wrap_bio(to_server, to_client, server_side=True)
    try:
        for _ in range(_HANDSHAKE_FLIGHTS):
            for end in (client_end, server_end):
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
        certificate = client_end.getpeercert()
    except (ssl.SSLError, ValueError) as error:  # ValueError: the handshake is not done.
        said = getattr(error, "verify_message", None) or getattr(error, "reason", None) or "no handshake"
        raise CredentialsInvalid(
            f"{files.certificate} does not hold up to {files.authority}: {said}"
        ) from error
    return certificate or {}
