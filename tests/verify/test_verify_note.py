"""Notes and checkpoints that must be refused, and policies."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from stele.format import merkle
from stele.format.note import SigningKey, sign_note
from stele.verify.checkpoint import parse_checkpoint, parse_checkpoint_text
from stele.verify.errors import (
    InvalidPolicy,
    InvalidSignature,
    InvalidVerifierKey,
    Malformed,
    MalformedNote,
    Mismatch,
    Unsigned,
    VerificationError,
)
from stele.verify.note import VerifierKey, cosignature_timestamp, open_note
from stele.verify.policy import TrustPolicy
from stele.verify.tlog_proof import TlogProof
from tests.verify.cosigning import cosign
from tests.verify.journal import KEY, VERIFIER, sample

OTHER = SigningKey("other", Ed25519PrivateKey.from_private_bytes(bytes(32)))
NOTE = sign_note("hello\n\nworld\n", KEY, OTHER)
SIGNATURE = NOTE.splitlines()[-2]


def witness(number: int) -> tuple[SigningKey, VerifierKey]:
    key = SigningKey(f"witness-{number}", Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))
    return key, VerifierKey.parse(key.verifier_key()).for_cosignatures()


@given(st.integers(0, len(NOTE.encode()) - 1), st.integers(0, 255))
def test_a_changed_note_never_opens_with_other_text(position: int, byte: int) -> None:
    changed = bytearray(NOTE.encode())
    changed[position] = byte
    try:
        opened = open_note(bytes(changed), [VERIFIER])
    except VerificationError:
        return
    # Only the line of a key that nobody here trusts can change.
    assert opened.text == "hello\n\nworld\n"


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n",
        "\n\n",
        "hello\n",
        "hello\n\n",
        f"hello\n{SIGNATURE}\n",
        f"hello\n\n{SIGNATURE}",
        f"hello\n\n{SIGNATURE}\nnot a signature\n",
        f"hello\n\n- {SIGNATURE[2:]}\n",
        f"hello\n\n{SIGNATURE} \n",
        f"hello\n\n{SIGNATURE[:-1]}\n",
        "hello\n\n\u2014 name\n",
        "hello\n\n\u2014 name \n",
        "hello\n\n\u2014  AAAAAAAA\n",
        "hello\n\n\u2014 na+me AAAAAAAA\n",
        "hello\n\n\u2014 na\u00a0me AAAAAAAA\n",
        "hello\n\n\u2014 name AAAAAA==\n",  # four bytes: an id without a signature
        "hello\n\n\u2014 name AAAAAAB=\n",  # stray bits
        "hello\n\n\u2014 name AAAA!AAA\n",
        "hello\t\n\n\u2014 name AAAAAAAA\n",
        "hello\r\n\n\u2014 name AAAAAAAA\n",
        "hello\ud800\n\n\u2014 name AAAAAAAA\n",
        b"hello\xff\n\n\xe2\x80\x94 name AAAAAAAA\n",
        "x" * 1_000_000 + "\n\n\u2014 name AAAAAAAA\n",
    ],
    ids=lambda note: repr(note)[:32],
)
def test_malformed_notes(note: str | bytes) -> None:
    with pytest.raises(MalformedNote):
        open_note(note, [VERIFIER])


def test_the_error_names_the_missing_part() -> None:
    with pytest.raises(MalformedNote, match="empty line"):
        open_note(f"x{SIGNATURE}\n", [VERIFIER])
    with pytest.raises(MalformedNote, match="newline"):
        open_note(f"hello\n\n{SIGNATURE}", [VERIFIER])


def test_cosignatures_have_one_length_and_a_bounded_time() -> None:
    assert cosignature_timestamp(b"\x7f" + b"\xff" * 7 + bytes(64)) == 2**63 - 1
    for signature in (b"", bytes(71), bytes(73), b"\x80" + bytes(71)):
        with pytest.raises(InvalidSignature):
            cosignature_timestamp(signature)


@pytest.mark.parametrize(
    ("name", "algorithm", "size_bytes"),
    [("", 1, 32), ("a b", 1, 32), ("a+b", 1, 32), ("a", 6, 32), ("a", 4, 31)],
)
def test_impossible_keys(name: str, algorithm: int, size_bytes: int) -> None:
    with pytest.raises(InvalidVerifierKey):
        VerifierKey(name, algorithm, bytes(size_bytes))


def test_a_known_keys_wrong_signature_refuses_the_note() -> None:
    forged = NOTE.replace("hello", "jello")
    with pytest.raises(InvalidSignature):
        open_note(forged, [VERIFIER])


def test_signatures_of_unknown_keys_are_ignored_even_under_a_known_name() -> None:
    namesake = SigningKey(KEY.name, Ed25519PrivateKey.from_private_bytes(bytes(32)))
    note = sign_note("hello\n", namesake, KEY)
    assert open_note(note, [VERIFIER]).verified_names == (KEY.name,)
    with pytest.raises(Unsigned):
        open_note(sign_note("hello\n", namesake), [VERIFIER])


def test_up_to_100_signatures() -> None:
    lines = OTHER.sign("hello\n") * 99
    assert open_note("hello\n\n" + lines + KEY.sign("hello\n"), [VERIFIER]).text == "hello\n"
    with pytest.raises(MalformedNote):
        open_note("hello\n\n" + lines + OTHER.sign("hello\n") + KEY.sign("hello\n"), [VERIFIER])


def test_cosignatures_carry_their_time() -> None:
    note = sample().checkpoint()
    signer, key = witness(1)
    opened = open_note(note + cosign(note, signer, timestamp_s=1_700_000_000), [key])
    assert [signature.timestamp_s for signature in opened.signatures] == [1_700_000_000]


def test_a_cosignature_fits_neither_another_time_nor_an_ordinary_signature() -> None:
    note = sample().checkpoint()
    signer, key = witness(1)
    name, line = f"\u2014 {signer.name} ", cosign(note, signer, timestamp_s=1_700_000_000)
    raw = bytearray(base64.b64decode(line.removeprefix(name)))
    raw[11] ^= 1  # the last byte of the time
    with pytest.raises(InvalidSignature):
        open_note(note + name + base64.b64encode(raw).decode() + "\n", [key])
    short = base64.b64encode(raw[:4] + raw[12:]).decode()
    with pytest.raises(InvalidSignature):
        open_note(note + name + short + "\n", [key])
    raw[4] = 0x80  # past 2**63 - 1
    with pytest.raises(InvalidSignature):
        open_note(note + name + base64.b64encode(raw).decode() + "\n", [key])


def test_policies_count_distinct_cosigners() -> None:
    note = sample().checkpoint()
    (signer_1, key_1), (signer_2, key_2), (_, key_3) = witness(1), witness(2), witness(3)
    policy = TrustPolicy.k_of_n(VERIFIER, (key_1, key_2, key_3), 2)
    one = note + cosign(note, signer_1, timestamp_s=1)
    with pytest.raises(Unsigned) as caught:
        parse_checkpoint(one + cosign(note, signer_1, timestamp_s=2), policy)
    assert (caught.value.expected, caught.value.found) == (
        "2 of cosigner0, cosigner1, cosigner2",
        "cosigner0",
    )
    assert parse_checkpoint(one + cosign(note, signer_2, timestamp_s=1), policy).size == sample().size


def test_cosigners_do_not_replace_the_log() -> None:
    note = sample().checkpoint()
    signer, key = witness(1)
    text = note[: note.rindex("\n\n") + 2]
    with pytest.raises(Unsigned):
        parse_checkpoint(text + cosign(note, signer, timestamp_s=1), TrustPolicy.k_of_n(VERIFIER, (key,), 1))


def test_impossible_policies() -> None:
    _, key = witness(1)
    with pytest.raises(InvalidPolicy):
        TrustPolicy.k_of_n(VERIFIER, (key,), 2)
    alias = VerifierKey("alias", key.algorithm, key.public_key)
    with pytest.raises(InvalidVerifierKey):
        TrustPolicy.k_of_n(VERIFIER, (key, alias), 2)


def test_a_checkpoint_of_another_origin_is_refused() -> None:
    root = base64.b64encode(bytes(32)).decode()
    note = sign_note(f"cluster/elsewhere\n1\n{root}\n", KEY)
    with pytest.raises(Mismatch):
        parse_checkpoint(note, VERIFIER)
    assert parse_checkpoint(note, VERIFIER, "cluster/elsewhere").size == 1


@pytest.mark.parametrize(
    "text",
    [
        "origin\n1\n",
        "origin\n01\nROOT\n",
        "origin\n-1\nROOT\n",
        "origin\n+1\nROOT\n",
        "origin\n１\nROOT\n",
        "origin\n1e3\nROOT\n",
        f"origin\n{2**63}\nROOT\n",
        f"origin\n{'9' * 5000}\nROOT\n",
        "\n1\nROOT\n",
        "origin\n1\nAAAA\n",
        "origin\n1\nROOT!\n",
        "origin\n1\nROOT",
        "origin\n1\nROOT\n\nextension\n",
    ],
)
def test_malformed_checkpoints(text: str) -> None:
    with pytest.raises(MalformedNote):
        parse_checkpoint_text(text.replace("ROOT", base64.b64encode(bytes(32)).decode()))


def test_extension_lines_are_allowed() -> None:
    root = base64.b64encode(bytes(32)).decode()
    assert parse_checkpoint_text(f"origin\n0\n{root}\nextension\n").size == 0


def test_a_tlog_proof_ties_a_header_to_its_checkpoint() -> None:
    journal = sample()
    path = merkle.path_in_leaves([merkle.leaf_hash(header) for header in journal.headers], 3)
    proof = TlogProof(3, tuple(path), journal.checkpoint())
    leaf = bytes.fromhex(journal.blocks[4]["header"]["prev"])  # the leaf hash of header 3
    assert TlogProof.parse(str(proof)).verify(leaf, VERIFIER).size == journal.size
    with pytest.raises(VerificationError):
        proof.verify(bytes(32), VERIFIER)


HASH_LINE = base64.b64encode(bytes(32)).decode() + "\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("c2sp.org/tlog-proof@v1\nindex 0\n", "empty line"),
        ("c2sp.org/tlog-proof@v1\nindex 0\n\ncheckpoint", "empty line"),
        ("c2sp.org/tlog-proof@v1\nindex 01\n\ncheckpoint\n", "index line"),
        ("c2sp.org/tlog-proof@v1\n\ncheckpoint\n", "index line"),
        (f"c2sp.org/tlog-proof@v1\nindex {2**63}\n\ncheckpoint\n", "index line"),
        ("c2sp.org/tlog-proof@v1\nindex 0\nAAAA\n\ncheckpoint\n", "bytes of a hash"),
        (f"c2sp.org/tlog-proof@v1\nindex 0\n{HASH_LINE * 65}\ncheckpoint\n", "hashes of a tlog-proof"),
        ("x" * 1_000_001, "characters of a tlog-proof"),
    ],
    ids=lambda value: value[:40],
)
def test_malformed_tlog_proofs(text: str, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        TlogProof.parse(text)
