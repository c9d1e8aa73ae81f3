"""Certificate, key and authority of one member: which files are refused, and how new ones are taken up."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from consensus.errors import CredentialsInvalid
from consensus.tls import CredentialFiles, MutualTls
from node import certificates
from node.certificates import Validity, credential_files, new_authority, new_member
from node.key_files import write_key_file

DAY = Validity.days(1)
PAST = Validity(datetime.now(UTC) - timedelta(days=9), datetime.now(UTC) - timedelta(days=1))


@pytest.fixture
def files(tmp_path: Path) -> CredentialFiles:
    certificates.create(tmp_path, "test", ["n0", "n1"], days=1)
    return credential_files(tmp_path, "n0")


def load(files: CredentialFiles) -> MutualTls:
    return MutualTls(files, cluster="test", node_id="n0")


def check_invalid(files: CredentialFiles, said: str) -> None:
    with pytest.raises(CredentialsInvalid, match=said) as refused:
        load(files)
    assert "PRIVATE" not in str(refused.value)
    assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610])
def test_a_key_that_others_may_read_is_refused(files: CredentialFiles, mode: int) -> None:
    files.key.chmod(mode)
    check_invalid(files, f"n0-key.pem is open to others \\(mode 0{mode:o}\\)")


def test_files_that_are_not_there_or_not_what_they_should_be(files: CredentialFiles, tmp_path: Path) -> None:
    for part, said in (
        ("authority", "ca.pem"),
        ("certificate", "n0.pem and .*n0-key.pem are not"),
        ("key", "n0-key.pem are not"),
    ):
        path: Path = getattr(files, part)
        content = path.read_bytes()
        path.write_bytes(b"SECRET")
        check_invalid(files, said)
        path.unlink()
        check_invalid(files, path.name)
        write_key_file(path, content)
        load(files)


def test_the_credentials_of_another_are_refused_at_start(files: CredentialFiles, tmp_path: Path) -> None:
    own = certificates.read_authority(tmp_path, "test")
    for issued, said in (
        (new_member(own, "test", "n1", DAY), "certificate of urn:stele:test:node:n1, not of"),
        (new_member(own, "other", "n0", DAY), "certificate of urn:stele:other:node:n0, not of"),
        (new_member(own, "test", "n0", PAST), "certificate has expired"),
        (new_member(new_authority("test", DAY), "test", "n0", DAY), "does not hold up to"),
        (own, "n0.pem"),
    ):
        certificates.write(files, issued)
        check_invalid(files, said)


def test_a_certificate_without_its_key_is_refused(files: CredentialFiles, tmp_path: Path) -> None:
    other_key = credential_files(tmp_path, "n1").key
    check_invalid(CredentialFiles(files.authority, files.certificate, other_key), "are not a PEM certificate")


def test_renewed_files_are_taken_up_and_broken_ones_are_not(
    files: CredentialFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tls = load(files)
    first = tls.server_context()
    assert tls.server_context() is first
    key = files.key.read_bytes()
    write_key_file(files.key, b"SECRET")
    assert tls.server_context() is first
    assert tls.client_context() is not None
    assert [each.levelno for each in caplog.records] == [logging.WARNING]
    assert "SECRET" not in caplog.text
    write_key_file(files.key, key)
    second = tls.server_context()
    assert second is not first
    expires_s = tls.not_after_s
    assert certificates.renew(tmp_path, "test", ["n0"], days=2, within_days=9) == ["n0"]
    assert tls.server_context() is not second
    assert tls.not_after_s > expires_s
