"""Cosignatures as replicas make them, and the statements about their keys, against the verifier."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from stele.format.cosignature import Cosigner
from stele.format.errors import InvalidNote
from stele.format.key_statement import retire_replica_text, set_log_text, set_replica_text
from stele.format.note import SigningKey, checkpoint_text, sign_note
from stele.verify.errors import InvalidKeyStatement, InvalidSignature, VerificationError
from stele.verify.key_history import KeyHistory
from stele.verify.note import VerifierKey, open_note

ROOT = bytes(range(32))
ED25519 = Cosigner("demo/n0", Ed25519PrivateKey.from_private_bytes(bytes(32)))
ML_DSA = Cosigner("demo/n0", MLDSA44PrivateKey.from_seed_bytes(bytes(32)))
TEXT = checkpoint_text("demo/sample", 7, ROOT)


@pytest.mark.parametrize("cosigner", [ED25519, ML_DSA], ids=["ed25519", "ml-dsa-44"])
def test_a_cosignature_holds_for_its_checkpoint_alone(cosigner: Cosigner) -> None:
    key = VerifierKey.parse(cosigner.verifier_key())
    line = cosigner.cosign("demo/sample", 7, ROOT, 1_700_000_000)
    (signature,) = open_note(f"{TEXT}\n{line}", [key]).signatures
    assert signature.timestamp_s == 1_700_000_000
    for text in (
        checkpoint_text("demo/sample", 8, ROOT),
        checkpoint_text("demo/other", 7, ROOT),
        checkpoint_text("demo/sample", 7, bytes(32)),
        "demo/sample\n07\nAAAA\n",
        "no checkpoint\n",
    ):
        with pytest.raises(InvalidSignature):
            open_note(f"{text}\n{line}", [key])


@given(st.data())
def test_no_altered_cosignature_is_accepted(data: st.DataObject) -> None:
    cosigner = data.draw(st.sampled_from([ED25519, ML_DSA]))
    line = cosigner.cosign("demo/sample", 7, ROOT, 1_700_000_000)
    prefix, encoded = line.rstrip("\n").rsplit(" ", 1)
    raw = bytearray(base64.b64decode(encoded))
    place = data.draw(st.integers(4, len(raw) - 1))
    raw[place] ^= 1 << data.draw(st.integers(0, 7))
    altered = f"{prefix} {base64.b64encode(raw).decode()}\n"
    with pytest.raises(VerificationError):
        open_note(f"{TEXT}\n{altered}", [VerifierKey.parse(cosigner.verifier_key())])


def test_what_no_checkpoint_can_state_is_not_cosigned() -> None:
    with pytest.raises(InvalidNote):
        ED25519.cosign("demo/sample", 7, ROOT[:-1], 0)
    with pytest.raises(InvalidNote):
        ED25519.cosign("demo/sample", 7, ROOT, -1)
    with pytest.raises(InvalidNote):
        ML_DSA.cosign("o" * 256, 7, ROOT, 0)


class Party:
    """A key of the log or of a replica, made from a number."""

    def __init__(self, name: str, number: int) -> None:
        private = Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))
        self.plain = SigningKey(name, private)
        self.cosigner = Cosigner(name, private)

    @property
    def vkey(self) -> str:
        return self.cosigner.verifier_key()


LOG, NEXT_LOG, FOREIGN_LOG = (Party("demo/$system", number) for number in (1, 2, 3))
OLD, NEW, OTHER = (Party("demo/n0", number) for number in (4, 5, 6))
SET_LOG = sign_note(set_log_text(LOG.plain.verifier_key()), LOG.plain)
SET_OLD = sign_note(set_replica_text("n0", [OLD.vkey]), LOG.plain, OLD.plain)
SET_NEW = sign_note(set_replica_text("n0", [NEW.vkey]), LOG.plain, OLD.plain, NEW.plain)
RETIRE_OLD = sign_note(retire_replica_text("n0", [OLD.vkey]), LOG.plain)


def history(*notes: str) -> KeyHistory:
    made = KeyHistory()
    for note in notes:
        made.apply(note)
    return made


def replicas(made: KeyHistory) -> dict[str, list[str]]:
    return {node_id: [str(key) for key in keys] for node_id, keys in made.replicas.items()}


def test_keys_are_set_replaced_and_retired() -> None:
    assert replicas(history(SET_LOG, SET_OLD)) == {"n0": [OLD.vkey]}
    rotated = history(SET_LOG, SET_OLD, SET_NEW)
    assert replicas(rotated) == {"n0": [NEW.vkey]}
    assert [str(key) for _, key in rotated.retired] == [OLD.vkey]
    retired = history(SET_LOG, SET_OLD, RETIRE_OLD)
    assert replicas(retired) == {}
    # A lost key: retired by the log alone, then another one, which needs nobody's leave but the log's.
    retired.apply(sign_note(set_replica_text("n0", [NEW.vkey]), LOG.plain, NEW.plain))
    assert replicas(retired) == {"n0": [NEW.vkey]}


def test_the_log_key_rotates_and_the_new_one_speaks_from_then_on() -> None:
    rotate = sign_note(set_log_text(NEXT_LOG.plain.verifier_key()), LOG.plain, NEXT_LOG.plain)
    rotated = history(SET_LOG, SET_OLD, rotate)
    assert str(rotated.log) == NEXT_LOG.plain.verifier_key()
    assert [str(key) for key in rotated.former_logs] == [LOG.plain.verifier_key()]
    with pytest.raises(VerificationError):
        rotated.apply(SET_NEW)
    rotated.apply(sign_note(set_replica_text("n0", [NEW.vkey]), NEXT_LOG.plain, OLD.plain, NEW.plain))


def test_a_replica_may_have_a_key_of_each_kind() -> None:
    text = set_replica_text("n0", [ED25519.verifier_key(), ML_DSA.verifier_key()])
    plain = SigningKey("demo/n0", Ed25519PrivateKey.from_private_bytes(bytes(32)))
    made = history(SET_LOG, sign_note(text, LOG.plain, plain))
    assert replicas(made) == {"n0": [ED25519.verifier_key(), ML_DSA.verifier_key()]}
    only = sign_note(set_replica_text("n0", [ED25519.verifier_key()]), LOG.plain, plain)
    made.apply(only)
    assert [str(key) for _, key in made.retired] == [ML_DSA.verifier_key()]


@pytest.mark.parametrize(
    ("before", "note"),
    [
        ([], SET_OLD),
        ([], sign_note(set_log_text(LOG.plain.verifier_key()), FOREIGN_LOG.plain)),
        ([SET_LOG], SET_LOG),
        ([SET_LOG], sign_note(set_log_text(NEXT_LOG.plain.verifier_key()), NEXT_LOG.plain)),
        ([SET_LOG], sign_note(set_log_text(NEXT_LOG.plain.verifier_key()), LOG.plain)),
        ([SET_LOG], sign_note(set_log_text(NEXT_LOG.vkey), LOG.plain, NEXT_LOG.plain)),
        ([SET_LOG], sign_note(set_replica_text("n0", [OLD.vkey]), LOG.plain)),
        ([SET_LOG], sign_note(set_replica_text("n0", [OLD.vkey]), OLD.plain)),
        ([SET_LOG], sign_note(set_replica_text("n1", [OLD.vkey]), LOG.plain, OLD.plain)),
        ([SET_LOG], sign_note(set_replica_text("n0", [OLD.vkey, NEW.vkey]), LOG.plain, OLD.plain)),
        ([SET_LOG], sign_note("stele-keys/v1\nset replica n0\n", LOG.plain)),
        ([SET_LOG], sign_note("stele-keys/v2\nset replica n0\n" + OLD.vkey + "\n", LOG.plain, OLD.plain)),
        ([SET_LOG], RETIRE_OLD),
        ([SET_LOG, SET_OLD], SET_OLD),
        ([SET_LOG, SET_OLD], sign_note(set_replica_text("n0", [NEW.vkey]), LOG.plain, NEW.plain)),
        ([SET_LOG, SET_OLD], sign_note(
            set_replica_text("n0", [NEW.vkey]), LOG.plain, OTHER.plain, NEW.plain
        )),
        ([SET_LOG, SET_OLD], sign_note(retire_replica_text("n0", [OLD.vkey]), OLD.plain)),
        ([SET_LOG, SET_OLD, RETIRE_OLD], SET_OLD),
        ([SET_LOG, SET_OLD, SET_NEW], sign_note(
            set_replica_text("n0", [OLD.vkey]), LOG.plain, NEW.plain, OLD.plain
        )),
    ],
)  # fmt: skip
def test_statements_that_may_not_be_made(before: list[str], note: str) -> None:
    made = history(*before)
    with pytest.raises(VerificationError):
        made.apply(note)
    unchanged = history(*before)
    assert (made.log, made.replicas, made.retired) == (unchanged.log, unchanged.replicas, unchanged.retired)


def test_a_history_begins_with_the_key_that_the_reader_trusts() -> None:
    anchored = KeyHistory(VerifierKey.parse(FOREIGN_LOG.plain.verifier_key()))
    with pytest.raises(InvalidKeyStatement):
        anchored.apply(SET_LOG)
    KeyHistory(VerifierKey.parse(LOG.plain.verifier_key())).apply(SET_LOG)
