"""`steled certificates`: what it makes is what nodes accept, and is for its owner only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from consensus.tls import MutualTls
from node.certificates import credential_files, renew
from tests.node.served import ServedNode
from tests.node.test_config import steled

DAY_S = 86_400


def create(folder: Path, nodes: str, cluster: str = "test") -> int:
    return steled("certificates", "create", "--cluster", cluster, "--out", str(folder), "--nodes", nodes)


def load(folder: Path, node_id: str) -> MutualTls:
    """Raises CredentialsInvalid."""
    return MutualTls(credential_files(folder, node_id), cluster="test", node_id=node_id)


def test_what_is_made_holds_and_its_keys_are_for_the_owner_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "certificates"
    assert create(folder, "n0,n1") == 0
    assert "made n0, n1" in capsys.readouterr().out
    assert sorted(each.name for each in folder.iterdir()) == [
        "ca-key.pem",
        "ca.pem",
        "n0-key.pem",
        "n0.pem",
        "n1-key.pem",
        "n1.pem",
    ]
    assert {each.stat().st_mode & 0o777 for each in folder.glob("*-key.pem")} == {0o600}
    left_s = load(folder, "n0").not_after_s - load(folder, "n1").not_after_s
    assert abs(left_s) < 60


def test_a_node_is_added_later_and_what_is_there_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create(tmp_path, "n0")
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    assert create(tmp_path, "n0,n1") == 0
    assert "made n1" in capsys.readouterr().out
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    load(tmp_path, "n1")


def test_what_was_just_made_or_renewed_holds_on_a_node_whose_clock_is_hours_behind(tmp_path: Path) -> None:
    hours_behind = datetime.now(UTC) - timedelta(hours=12)
    create(tmp_path, "n0")
    assert renew(tmp_path, "test", ["n0"], 3, within_days=10_000) == ["n0"]
    for name in ("ca.pem", "n0.pem"):
        certificate = x509.load_pem_x509_certificate((tmp_path / name).read_bytes())
        assert certificate.not_valid_before_utc < hours_behind


def test_renewing_gives_a_new_key_and_a_later_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create(tmp_path, "n0,n1")
    old = load(tmp_path, "n0").not_after_s
    old_key, other = (tmp_path / "n0-key.pem").read_bytes(), (tmp_path / "n1.pem").read_bytes()
    options = ["--cluster", "test", "--out", str(tmp_path), "--nodes", "n0", "--days", "500"]
    assert steled("certificates", "renew", *options, "--within-days", "300") == 0
    assert "renewed nothing" in capsys.readouterr().out
    assert steled("certificates", "renew", *options) == 0
    assert "renewed n0" in capsys.readouterr().out
    assert load(tmp_path, "n0").not_after_s > old + 100 * DAY_S
    assert (tmp_path / "n0-key.pem").read_bytes() != old_key
    assert (tmp_path / "n1.pem").read_bytes() == other


def test_no_certificate_outlives_its_authority(tmp_path: Path) -> None:
    create(tmp_path, "n0")
    options = ["--cluster", "test", "--out", str(tmp_path), "--nodes", "n0", "--days", "3650"]
    assert steled("certificates", "renew", *options) == 0
    authority, member = (
        x509.load_pem_x509_certificate((tmp_path / name).read_bytes()) for name in ("ca.pem", "n0.pem")
    )
    assert member.not_valid_after_utc <= authority.not_valid_after_utc


@pytest.mark.parametrize(
    ("file", "said"), [("ca.pem", "ca.pem"), ("ca-key.pem", "ca-key.pem"), ("n0.pem", "n0.pem")]
)
def test_a_damaged_folder_is_named_and_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, said: str
) -> None:
    create(tmp_path, "n0")
    (tmp_path / file).write_bytes(b"SECRET")
    assert steled("certificates", "renew", "--cluster", "test", "--out", str(tmp_path), "--nodes", "n0") == 1
    shown = capsys.readouterr().err
    assert said in shown
    assert "SECRET" not in shown


def test_the_folder_of_another_cluster_and_a_reserved_name_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create(tmp_path, "n0")
    assert create(tmp_path, "n1", cluster="other") == 1
    assert "not the authority of cluster 'other'" in capsys.readouterr().err
    assert create(tmp_path, "ca") == 1
    assert create(tmp_path / "n0.pem", "n0") == 1


def test_a_node_serves_with_its_certificate_and_not_with_anothers(tmp_path: Path) -> None:
    create(tmp_path, "n0,n1", cluster="stele")
    files = credential_files(tmp_path, "n0")
    settings = {"raft_ca_file": files.authority, "raft_certificate_file": files.certificate}
    node = ServedNode(tmp_path, {**settings, "raft_key_file": files.key, "insecure": False}).start()
    node.stop()
    options = ["--node-id", "n1", "--data-dir", str(tmp_path / "other")]
    options += ["--log-key-file", str(tmp_path / "log-key.pem"), "--raft-ca-file", str(files.authority)]
    options += ["--raft-certificate-file", str(files.certificate), "--raft-key-file", str(files.key)]
    assert steled("serve", *options) == 1
