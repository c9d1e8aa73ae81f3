"""Signed notes against golang.org/x/mod/sumdb/note, cosignatures against transparency-dev/formats."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stele.format.note import SigningKey, sign_note
from stele.verify.errors import InvalidVerifierKey, VerificationError
from stele.verify.note import COSIGNATURE_V1, ML_DSA_44, VerifierKey, cosignature_timestamp, open_note
from tests.vectors import load

NOTES = load("note_vectors")
COSIGNATURES = load("cosig_vectors")


def signing_key(skey: str) -> SigningKey:
    """Read golang's "PRIVATE+KEY+<name>+<id>+<base64 of 01 || seed>"."""
    _, _, name, key_id, encoded = skey.split("+", 4)
    key = SigningKey(name, Ed25519PrivateKey.from_private_bytes(base64.b64decode(encoded)[1:]))
    assert key.key_id.hex() == key_id
    return key


@pytest.mark.parametrize("case", NOTES["cases"], ids=lambda case: case["name"])
def test_notes(case: dict[str, Any]) -> None:
    note = base64.b64decode(case["note_b64"])
    keys = [VerifierKey.parse(vkey) for vkey in case["trusted_vkeys"]]
    if case["accept"]:
        assert list(open_note(note, keys).verified_names) == case["verified_names"]
    else:
        with pytest.raises(VerificationError):
            open_note(note, keys)


@pytest.mark.parametrize("case", NOTES["vkeys"], ids=lambda case: case.get("why", case["vkey"][:16]))
def test_verifier_keys(case: dict[str, Any]) -> None:
    if case["ok"]:
        assert str(VerifierKey.parse(case["vkey"])) == case["vkey"]
    else:
        with pytest.raises(InvalidVerifierKey):
            VerifierKey.parse(case["vkey"])


def test_every_mutation_of_a_verifier_key_is_refused() -> None:
    vkey = NOTES["vkeys"][0]["vkey"]
    length = len(vkey)
    mutants = {vkey[i:j] for i in range(length) for j in range(i, length + 1)} - {vkey}
    mutants |= {vkey[:i] + chr(ord(vkey[i]) + 1) + vkey[i + 1 :] for i in range(length)}
    for mutant in mutants:
        with pytest.raises(InvalidVerifierKey):
            VerifierKey.parse(mutant)


def test_signing_gives_the_known_note() -> None:
    case = NOTES["sign"]
    assert sign_note(case["text"], signing_key(case["skey"])) == case["note"]


def test_cosigner_keys() -> None:
    for vkey in COSIGNATURES["vkeys_ok"]:
        key = VerifierKey.parse(vkey)
        assert key.algorithm == COSIGNATURE_V1
        assert str(key) == vkey
    for vkey in [*COSIGNATURES["vkeys_bad"], COSIGNATURES["vkey_mldsa44_upstream_key_id_wrong"]["vkey"]]:
        with pytest.raises(InvalidVerifierKey):
            VerifierKey.parse(vkey)


def test_an_ml_dsa_key_is_read_once_its_id_is_right() -> None:
    name, wrong_id, encoded = COSIGNATURES["vkey_mldsa44_upstream_key_id_wrong"]["vkey"].split("+", 2)
    assert wrong_id == "5893dc2c"
    key = VerifierKey.parse(f"{name}+31236897+{encoded}")
    assert (key.algorithm, key.key_id.hex()) == (ML_DSA_44, "31236897")


def test_an_ed25519_key_becomes_a_cosigner_key() -> None:
    key = VerifierKey.parse(COSIGNATURES["vkey_ed25519_convertible"])
    cosigner = key.for_cosignatures()
    assert (cosigner.name, cosigner.public_key) == (key.name, key.public_key)
    assert cosigner.key_id != key.key_id
    assert VerifierKey.parse(str(cosigner)) == cosigner


def test_cosignature_timestamp() -> None:
    case = COSIGNATURES["timestamp"]
    key_id_size_bytes = 4
    assert cosignature_timestamp(base64.b64decode(case["sig_b64"])[key_id_size_bytes:]) == case["unix"]
