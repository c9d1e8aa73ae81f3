"""Signing notes: what is signed opens again, and nothing else is signed."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from stele.format.errors import InvalidNote
from stele.format.note import SigningKey, checkpoint_text, sign_note
from stele.verify.checkpoint import parse_checkpoint
from stele.verify.note import VerifierKey, open_note

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = SigningKey("cluster/ledger", PRIVATE)
LINES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], min_codepoint=0x20), max_size=20), max_size=4
)


@given(LINES)
def test_a_signed_note_opens(lines: list[str]) -> None:
    text = "".join(line + "\n" for line in ["first", *lines])
    other = SigningKey("other", PRIVATE)
    note = sign_note(text, KEY, other)
    opened = open_note(note, [VerifierKey.parse(KEY.verifier_key())])
    assert opened.text == text
    assert opened.verified_names == ("cluster/ledger",)


def test_a_checkpoint_opens() -> None:
    root = bytes(range(32))
    note = sign_note(checkpoint_text(KEY.name, 12, root), KEY)
    assert note.startswith(f"cluster/ledger\n12\n{base64.b64encode(root).decode()}\n\n\u2014 cluster/ledger ")
    checkpoint = parse_checkpoint(note, VerifierKey.parse(KEY.verifier_key()))
    assert (checkpoint.origin, checkpoint.size, checkpoint.root) == ("cluster/ledger", 12, root)


def test_one_private_key_has_an_id_of_its_own_under_each_name() -> None:
    assert SigningKey("a", PRIVATE).key_id != SigningKey("b", PRIVATE).key_id


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u00a0b", "a\u3000b", "\ud800", "\x00"])
def test_refused_names(name: str) -> None:
    with pytest.raises(InvalidNote):
        SigningKey(name, PRIVATE)


@pytest.mark.parametrize("text", ["", "no newline", "tab\t\n", "\r\n", "nul\x00\n", "\ud800\n"])
def test_refused_texts(text: str) -> None:
    with pytest.raises(InvalidNote):
        sign_note(text, KEY)
    with pytest.raises(InvalidNote):
        KEY.sign(text)


def test_a_note_needs_a_key() -> None:
    with pytest.raises(InvalidNote):
        sign_note("text\n")


@pytest.mark.parametrize(
    ("origin", "size", "root"),
    [
        ("", 1, bytes(32)),
        ("a\nb", 1, bytes(32)),
        ("a", -1, bytes(32)),
        ("a", 2**53, bytes(32)),
        ("a", 1, bytes(31)),
    ],
)
def test_refused_checkpoints(origin: str, size: int, root: bytes) -> None:
    with pytest.raises(InvalidNote):
        checkpoint_text(origin, size, root)
