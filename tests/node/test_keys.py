"""Keys that sign: their files, what the journal says of them, and what happens between two writes."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.config import Config
from node.key_files import write_key_file
from node.key_journal import SYSTEM_LEDGER
from node.key_rotation import KeyRotationFailed, add_log_key, retire_replica, rotate_log, rotate_replica
from node.own_keys import ReplicaKeys
from node.signing_keys import (
    CosignerKeys,
    SigningKeyInvalid,
    create_log_key,
    encode_private_key,
    load_log_keys,
    next_key_file,
)
from stele.format.key_statement import retire_replica_text, set_log_text, set_replica_text
from stele.format.note import SigningKey, sign_note
from stele.verify.key_history import KeyHistory
from stele.verify.note import VerifierKey, open_note, split_note
from storage.store import Store
from tests.node.served import Answer, ServedNode, free_port

NAME = "stele/n0"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "data")
    yield opened
    opened.close()


def test_a_replica_makes_its_key_once_and_for_its_owner_only(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "cosigner.pem"
    first = ReplicaKeys(NAME, path, store.checkpoints)
    assert path.stat().st_mode & 0o777 == 0o600
    assert ReplicaKeys(NAME, path, store.checkpoints).keys.verifier_keys == first.keys.verifier_keys


def test_a_key_that_an_operator_provides_is_taken(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "cosigner.pem"
    provided = CosignerKeys.generate(NAME, ml_dsa=True)
    provided.write(path)
    assert ReplicaKeys(NAME, path, store.checkpoints).keys.verifier_keys == provided.verifier_keys


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, store: Store, mode: int) -> None:
    path = tmp_path / "cosigner.pem"
    ReplicaKeys(NAME, path, store.checkpoints)
    path.chmod(mode)
    with pytest.raises(SigningKeyInvalid, match="others than its owner"):
        ReplicaKeys(NAME, path, store.checkpoints)
    create_log_key(tmp_path / "log.pem")
    (tmp_path / "log.pem").chmod(mode)
    with pytest.raises(SigningKeyInvalid, match="log_key_file"):
        load_log_keys(tmp_path / "log.pem")


def test_a_key_that_is_missing_or_another_one_is_refused(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "cosigner.pem"
    ReplicaKeys(NAME, path, store.checkpoints)
    CosignerKeys.generate(NAME).write(path)
    with pytest.raises(SigningKeyInvalid, match="another key"):
        ReplicaKeys(NAME, path, store.checkpoints)
    path.unlink()
    with pytest.raises(SigningKeyInvalid, match="is missing"):
        ReplicaKeys(NAME, path, store.checkpoints)


@pytest.mark.parametrize(
    "content", [b"", b"secret", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_file_without_a_key_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cosigner.pem"
    write_key_file(path, content)
    with pytest.raises(SigningKeyInvalid) as refused:
        CosignerKeys.read(NAME, path)
    assert "secret" not in str(refused.value)
    write_key_file(path, 2 * encode_private_key(Ed25519PrivateKey.generate()))
    with pytest.raises(SigningKeyInvalid, match="second key"):
        CosignerKeys.read(NAME, path)


def rotated_history(old: CosignerKeys, new: CosignerKeys) -> KeyHistory:
    log = SigningKey(f"stele/{SYSTEM_LEDGER}", Ed25519PrivateKey.generate())
    history = KeyHistory()
    history.apply(sign_note(set_log_text(log.verifier_key()), log))
    history.apply(sign_note(set_replica_text("n0", old.verifier_keys), log, old.plain))
    history.apply(sign_note(set_replica_text("n0", new.verifier_keys), log, old.plain, new.plain))
    return history


def test_a_rotation_that_is_cut_short_anywhere_is_finished(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cosigner.pem"
    own = ReplicaKeys(NAME, path, store.checkpoints)
    old, new = own.keys, CosignerKeys.generate(NAME)
    new.write(next_key_file(path))
    history = rotated_history(old, new)

    # Before the store knows: the old key is still the one expected, and then taken up.
    again = ReplicaKeys(NAME, path, store.checkpoints)
    assert again.keys.verifier_keys == old.verifier_keys

    def cut(source: object, target: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", cut)
        with pytest.raises(KeyboardInterrupt):
            again.named_in("n0", history)
    # Between the store and the file.
    finished = ReplicaKeys(NAME, path, store.checkpoints)
    assert finished.keys.verifier_keys == new.verifier_keys
    assert finished.named_in("n0", history)
    assert not next_key_file(path).exists()
    assert CosignerKeys.read(NAME, path).verifier_keys == new.verifier_keys


def test_a_key_that_the_journal_does_not_name_is_not_signed_with(tmp_path: Path, store: Store) -> None:
    own = ReplicaKeys(NAME, tmp_path / "cosigner.pem", store.checkpoints)
    assert not own.named_in("n0", KeyHistory())
    assert not own.named_in("n0", rotated_history(own.keys, CosignerKeys.generate(NAME)))


# On a running node.


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ServedNode]:
    """Rotations change it, so each test has its own."""
    served = ServedNode(tmp_path, {"seal_interval_s": 0.05}).start()
    yield served
    served.stop()


def keys_of(node: ServedNode) -> dict[str, list[str]]:
    """The active keys of each replica, from statements that the reader has checked himself."""
    history = KeyHistory()
    for each in node.ask("GET", "/v1/cluster/keys").json["statements"]:
        history.apply(each["statement"])
    return {node_id: [str(key) for key in keys] for node_id, keys in history.replicas.items()}


def checkpoint(node: ServedNode, ledger: str, required: int = 1) -> str:
    answer = node.ask("GET", f"/v1/ledgers/{ledger}/checkpoint?cosignatures={required}")
    assert answer.status == 200, answer.body
    return answer.body.decode()


def log_key(node: ServedNode, ledger: str) -> VerifierKey:
    return VerifierKey.parse(node.ask("GET", f"/v1/ledgers/{ledger}").json["verifier_key"])


def test_the_keys_are_provable_like_any_document(node: ServedNode) -> None:
    listed = node.ask("GET", "/v1/cluster/keys").json
    (replica,) = listed["replicas"]
    assert (replica["node"], replica["state"]) == ("n0", "active")
    assert keys_of(node)["n0"] == replica["verifier_keys"]
    path = f"/v1/ledgers/{SYSTEM_LEDGER}/tables/keys/documents/replica:n0?proof=true"
    answer = node.ask("GET", path).json
    assert answer["data"]["statement"] == listed["statements"][-1]["statement"]
    assert "checkpoint" in answer["proof"]
    assert (
        node.ask("GET", f"/v1/ledgers/{SYSTEM_LEDGER}/blocks/{listed['statements'][0]['seq']}").status == 200
    )
    assert node.ask("GET", "/v1/ledgers").json == {"ledgers": []}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", ""),
        ("DELETE", ""),
        ("PUT", "/tables/more"),
        ("DELETE", "/tables/keys"),
        ("PUT", "/tables/keys/documents/log"),
        ("DELETE", "/tables/keys/documents/log"),
        ("POST", "/tables/keys/documents"),
        ("POST", "/transactions"),
        ("POST", "/bulk"),
    ],
)
def test_nobody_writes_to_the_system_ledger(kept: ServedNode, method: str, path: str) -> None:
    before = kept.size(SYSTEM_LEDGER)
    for name in (SYSTEM_LEDGER, "%24system"):
        answer = kept.ask(method, f"/v1/ledgers/{name}{path}", {})
        assert (answer.status, answer.slug) == (403, "system-ledger")
    assert kept.ask("GET", "/v1/ledgers/$other").slug == "invalid-name"
    assert kept.size(SYSTEM_LEDGER) == before


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedNode]:
    served = ServedNode(tmp_path_factory.mktemp("kept")).start()
    yield served
    served.stop()


def post(node: ServedNode, note: str) -> Answer:
    return node.ask("POST", "/v1/cluster/keys", note.encode())


def test_statements_that_may_not_be_made_are_refused(kept: ServedNode) -> None:
    before = kept.ask("GET", "/v1/cluster/keys").json
    log = SigningKey(f"stele/{SYSTEM_LEDGER}", load_log_keys(kept.config.log_key_file)[0])
    foreign = SigningKey(f"stele/{SYSTEM_LEDGER}", Ed25519PrivateKey.generate())
    thief = CosignerKeys.generate(NAME)
    for note in (
        "nonsense",
        sign_note(set_replica_text("n0", thief.verifier_keys), log, thief.plain),
        sign_note(set_replica_text("n0", thief.verifier_keys), foreign, thief.plain),
        sign_note(set_log_text(foreign.verifier_key()), foreign),
        sign_note(retire_replica_text("n0", before["replicas"][0]["verifier_keys"]), foreign),
        before["statements"][-1]["statement"],
    ):
        answer = post(kept, note)
        assert (answer.status, answer.slug) == (409, "key-statement-refused"), answer.body
    assert kept.ask("POST", "/v1/cluster/keys", b"\xff").slug == "invalid-utf8"
    assert kept.ask("GET", "/v1/cluster/keys").json == before


def test_a_replica_key_rotates_and_old_checkpoints_keep_their_cosignature(node: ServedNode) -> None:
    node.ledger("cars")
    old = VerifierKey.parse(keys_of(node)["n0"][0])
    signed_by_old = checkpoint(node, "cars")
    made = rotate_replica(node.config, ml_dsa=True)
    assert keys_of(node)["n0"] == made
    new = [VerifierKey.parse(key) for key in made]
    # What is newest is cosigned again at once, with the new keys.
    until_signed_by(node, "cars", new)
    assert open_note(checkpoint(node, "cars"), [old]).signatures_by == (old,)
    node.ask("PUT", "/v1/ledgers/cars/tables/cars/documents/a", {})
    until_signed_by(node, "cars", new, but_not=old)
    assert open_note(signed_by_old, [old]).signatures_by == (old,)
    assert not next_key_file(node.config.cosigner_key_path).exists()


def until_signed_by(
    node: ServedNode, ledger: str, keys: list[VerifierKey], but_not: VerifierKey | None = None
) -> None:
    """Waits for a newest checkpoint with the signatures of `keys`, and without that of `but_not`."""
    wanted = {(key.name, key.key_id) for key in keys}
    unwanted = set() if but_not is None else {(but_not.name, but_not.key_id)}
    deadline = time.monotonic() + 20
    while True:
        found = signers(checkpoint(node, ledger, required=0))
        if wanted <= found and not unwanted & found:
            return
        assert time.monotonic() < deadline, f"signed by {found}, not {wanted} without {unwanted}"


def signers(note: str) -> set[tuple[str, bytes]]:
    """(name, key id) on each signature line."""
    lines = [line.split(" ") for line in split_note(note)[1]]
    return {(name, base64.b64decode(encoded)[:4]) for _, name, encoded in lines}


def test_the_log_key_rotates_and_the_old_one_signs_beside_it_for_as_long_as_it_is_there(
    node: ServedNode,
) -> None:
    node.ledger("cars")
    old = log_key(node, "cars")
    signed_by_old = checkpoint(node, "cars")
    with pytest.raises(KeyRotationFailed, match="no new key"):
        rotate_log(node.config)
    assert add_log_key(node.config)
    assert not add_log_key(node.config), "one waits already"
    assert log_key(node, "cars") == old
    rotate_log(node.config)
    new = log_key(node, "cars")
    assert new != old
    both = checkpoint(node, "cars")
    assert open_note(both, [new, old]).signatures_by == (new, old)
    # Without the old key in the file, nothing new is signed with it.
    keys = load_log_keys(node.config.log_key_file)
    write_key_file(node.config.log_key_file, encode_private_key(keys[1]))
    restarted(node)
    node.ask("PUT", "/v1/ledgers/cars/tables/cars/documents/a", {})
    until_signed_by(node, "cars", [new], but_not=old)
    assert open_note(signed_by_old, [old]).signatures_by == (old,)


def restarted(node: ServedNode) -> None:
    """The same object with the same files, run again."""
    node.stop()
    node.settings = {**node.settings, "http_port": free_port(), "raft_port": free_port()}
    node.__post_init__()
    node.start()


def test_a_node_without_the_log_key_that_the_journal_names_is_not_ready(node: ServedNode) -> None:
    node.ledger("cars")
    present = load_log_keys(node.config.log_key_file)[0]
    add_log_key(node.config)
    rotate_log(node.config)
    checkpoint(node, "cars")
    write_key_file(node.config.log_key_file, encode_private_key(present))
    node.stop()
    node.settings = {**node.settings, "http_port": free_port(), "raft_port": free_port()}
    node.__post_init__()
    node.begin()
    deadline = time.monotonic() + 20
    while node.ask("GET", "/readyz").slug != "log-key-missing":
        assert time.monotonic() < deadline, "it counts as ready"
    assert node.ask("GET", "/v1/ledgers/cars/checkpoint").slug == "log-key-missing"


def test_a_retired_key_is_an_alarm_until_it_is_rotated(node: ServedNode) -> None:
    node.ledger("cars")
    retire_replica(node.config, "n0")
    assert keys_of(node) == {}
    ready = node.ask("GET", "/readyz").json
    assert (ready["status"], len(ready["alarms"])) == ("ok", 1)
    assert "retired" in ready["alarms"][0]
    with pytest.raises(KeyRotationFailed, match="no key"):
        retire_replica(node.config, "n0")
    made = rotate_replica(node.config, ml_dsa=False)
    assert keys_of(node)["n0"] == made
    until_signed_by(node, "cars", [VerifierKey.parse(made[0])])
    assert "alarms" not in node.ask("GET", "/readyz").json


def test_a_rotation_that_nobody_answers_changes_nothing(tmp_path: Path) -> None:
    create_log_key(tmp_path / "log-key.pem")
    config = Config(
        node_id="n0",
        data_dir=tmp_path / "data",
        log_key_file=tmp_path / "log-key.pem",
        http_port=free_port(),
        insecure=True,
    )
    with pytest.raises(KeyRotationFailed, match="does not answer"):
        rotate_log(config)
    assert [path.name for path in tmp_path.iterdir()] == ["log-key.pem"]
