"""A witness cosigns growth and nothing else, says why not, and remembers across restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stele.client.errors import Conflict, ServerFailed
from stele.client.witnesses import ask_witness
from stele.format.cosignature import Cosigner
from stele.verify.checkpoint import Checkpoint, parse_checkpoint
from stele.verify.note import VerifierKey, open_note
from stele.verify.policy import TrustPolicy, Witness
from stele.verify.witness import AddCheckpoint, NotCosigned
from stele.witness.records import Records, WitnessDamaged, load_or_create_key
from stele.witness.server import WitnessService
from tests.client.log import Log
from tests.vectors.test_vectors_note import signing_key
from tests.vectors.test_vectors_tlog import WITNESS
from tests.verify.cosigning import private_key

VECTOR_PATH = tuple(bytes.fromhex(text) for text in WITNESS["consistency_proof_5_to_8_hex"])
VECTOR_LOG = VerifierKey.parse(WITNESS["log_vkey"])
OWN = Cosigner("witness", private_key(signing_key(WITNESS["witness_skey"])))
OWN_KEY = VerifierKey.parse(OWN.verifier_key())
SIZE_5, SIZE_8 = WITNESS["checkpoint_size5"], WITNESS["checkpoint_size8"]


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    opened = Records(tmp_path / "witness")
    yield opened
    opened.close()


def service(records: Records, *logs: VerifierKey) -> WitnessService:
    return WitnessService(OWN, logs or [VECTOR_LOG], records, now_s=lambda: 1_700_000_000.9)


def add(witness: WitnessService, old: int, path: tuple[bytes, ...], note: str) -> str:
    return witness.add_checkpoint(bytes(AddCheckpoint(old, path, note)))


def refused(witness: WitnessService, old: int, path: tuple[bytes, ...], note: str) -> NotCosigned:
    with pytest.raises(NotCosigned) as caught:
        add(witness, old, path, note)
    return caught.value


def test_the_round_of_the_vectors(records: Records) -> None:
    witness = service(records)
    first = add(witness, 0, (), SIZE_5)
    (signature,) = open_note(SIZE_5 + first, [OWN_KEY]).signatures
    assert signature.timestamp_s == 1_700_000_000
    second = add(witness, 5, VECTOR_PATH, SIZE_8)
    policy = TrustPolicy.k_of_n(VECTOR_LOG, [OWN_KEY], 1)
    assert parse_checkpoint(SIZE_8 + second, policy).size == 8
    assert add(witness, 8, (), SIZE_8) == second  # again, at the same second


def test_each_refusal_has_its_status(records: Records) -> None:
    witness = service(records)
    add(witness, 0, (), SIZE_5)
    assert (refused(witness, 0, (), SIZE_8)).status == 409
    assert (refused(witness, 0, (), SIZE_8)).size == 5
    assert (refused(witness, 5, VECTOR_PATH[::-1], SIZE_8)).status == 422
    assert (refused(witness, 5, (), SIZE_8)).status == 422
    assert (refused(witness, 9, VECTOR_PATH, SIZE_8)).status == 400
    assert (refused(witness, 5, VECTOR_PATH, SIZE_8.replace("monkeys", "bananas"))).status == 404
    unsigned = SIZE_8.replace("— monkeys 202f", "— monkeys 203f")
    assert (refused(witness, 5, VECTOR_PATH, unsigned)).status == 403
    changed = SIZE_8.replace("V8K9", "V8K8")
    assert (refused(witness, 5, VECTOR_PATH, changed)).status == 403
    add(witness, 5, VECTOR_PATH, SIZE_8)
    assert (refused(witness, 5, (), SIZE_5)).size == 8


def test_a_proof_from_nothing_is_empty(records: Records) -> None:
    assert (refused(service(records), 0, VECTOR_PATH, SIZE_8)).status == 422


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 5\n",
        b"old 05\n\n" + SIZE_8.encode(),
        b"old 5\nAAAA\n" + SIZE_8.encode(),
        b"old -1\n\n" + SIZE_8.encode(),
        b"old 5\nA===\n\n" + SIZE_8.encode(),
        b"old 5\n" + b"AAAA\n" * 64 + b"\n" + SIZE_8.encode(),
        b"old 5\n\nnot a note\n",
        b"\xff" * 40,
        b"x" * (128 * 1024 + 1),
    ],
)
def test_what_is_no_request_is_400(records: Records, body: bytes) -> None:
    with pytest.raises(NotCosigned) as caught:
        service(records).add_checkpoint(body)
    assert caught.value.status == 400


def test_two_roots_for_one_size(records: Records) -> None:
    true, fork = Log(), Log()
    true.put("k", {"n": 1})
    fork.put("k", {"n": 2})
    witness = service(records, VerifierKey.parse(true.key.verifier_key()))
    add(witness, 0, (), true.checkpoint())
    wrong = refused(witness, true.size, (), fork.checkpoint())
    assert (wrong.status, wrong.size) == (409, true.size)


def test_what_was_cosigned_outlives_the_process(tmp_path: Path) -> None:
    first = Records(tmp_path)
    add(service(first), 0, (), SIZE_5)
    with pytest.raises(WitnessDamaged, match="cannot hold"):
        Records(tmp_path)
    first.close()
    again = Records(tmp_path)
    assert (refused(service(again), 0, (), SIZE_5)).size == 5
    (file,) = tmp_path.glob("*.note")
    file.write_text("damaged", encoding="utf-8")
    with pytest.raises(WitnessDamaged):
        add(service(again), 5, VECTOR_PATH, SIZE_8)
    again.close()


async def test_submissions_at_once_never_roll_back(records: Records) -> None:
    """The race that the protocol names: a smaller tree checked before a larger one is stored."""
    log = Log()
    notes = []
    for number in range(12):
        log.put(f"k{number}", {})
        notes.append((log.size, log.checkpoint()))
    witness = service(records, VerifierKey.parse(log.key.verifier_key()))
    first_size, first = notes[0]
    add(witness, 0, (), first)

    requests = [
        bytes(AddCheckpoint(first_size, tuple(map(bytes.fromhex, log.consistency(first_size, size))), note))
        for size, note in notes[1:]
    ]
    server = TestServer(witness.application(), host="127.0.0.1")
    await server.start_server()
    try:
        async with aiohttp.ClientSession() as session:
            url = server.make_url("/add-checkpoint")
            answers = await asyncio.gather(*(session.post(url, data=body) for body in requests))
    finally:
        await server.close()
    statuses = [answer.status for answer in answers]
    assert sorted(statuses) == [200] + [409] * (len(requests) - 1)
    won = notes[1 + statuses.index(200)][0]
    latest = records.latest(log.key.name)
    assert latest is not None
    assert latest.size == won


async def test_asking_over_http(records: Records) -> None:
    log = Log()
    key = VerifierKey.parse(log.key.verifier_key())
    server = TestServer(service(records, key).application(), host="127.0.0.1")
    await server.start_server()
    outside = Witness(OWN_KEY, str(server.make_url("/")))

    async def fetch(old: int, new: int) -> list[bytes]:
        return [bytes.fromhex(text) for text in log.consistency(old, new)]

    note, checkpoint = log.checkpoint(), parse_checkpoint(log.checkpoint(), key)
    try:
        async with aiohttp.ClientSession() as session:
            for number in range(4):  # the witness says itself which size it has
                log.put(f"k{number}", {})
                note = log.checkpoint()
                checkpoint = parse_checkpoint(note, key)
                lines = await ask_witness(session, outside, note, checkpoint, fetch)
                policy = TrustPolicy.k_of_n(key, [OWN_KEY], 1)
                assert parse_checkpoint(note + lines, policy) == checkpoint
            old = log.journal.checkpoint(3)
            with pytest.raises(Conflict, match=f"size {log.size}"):
                await ask_witness(session, outside, old, Checkpoint(key.name, 3, b""), fetch)
            stranger = Witness(VerifierKey(OWN_KEY.name, 4, bytes(31) + b"\x01"), outside.url)
            with pytest.raises(ServerFailed, match="no cosignature"):
                await ask_witness(session, stranger, note, checkpoint, fetch)
            async with session.post(
                f"{outside.url}add-checkpoint", data=b"old 0\n\n" + note.encode()
            ) as answer:
                assert (answer.status, answer.content_type) == (409, "text/x.tlog.size")
                assert await answer.text() == f"{log.size}\n"
    finally:
        await server.close()


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "witness.pem"
    made = load_or_create_key(path)
    assert load_or_create_key(path).private_bytes_raw() == made.private_bytes_raw()
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("nonsense", encoding="utf-8")
    with pytest.raises(WitnessDamaged):
        load_or_create_key(path)


def test_extension_lines_are_cosigned() -> None:
    text = f"monkeys\n5\n{SIZE_5.splitlines()[2]}\n"
    extended = f"{text}more of it\n"
    root = open_note(SIZE_5, [VECTOR_LOG]).text
    assert root == text
    cosigner = Cosigner("w", Ed25519PrivateKey.generate())
    checkpoint = parse_checkpoint(SIZE_5, VECTOR_LOG)
    line = cosigner.cosign(checkpoint.origin, checkpoint.size, checkpoint.root, 7, "more of it\n")
    opened = open_note(f"{extended}\n{line}", [VerifierKey.parse(cosigner.verifier_key())])
    assert opened.signatures[0].timestamp_s == 7
