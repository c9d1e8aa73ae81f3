"""What `tests.verify.fuzz` fuzzes. A target must refuse with a VerificationError or accept the truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stele.verify.errors import VerificationError
from stele.verify.export import verify_export
from stele.verify.note import open_note
from stele.verify.policy import TrustPolicy
from stele.verify.receipt import ReceiptVerifier
from stele.verify.tlog_proof import TlogProof
from stele.verify.witness import AddCheckpoint
from tests.verify.claims import ALL, accepted, encoded, is_true, receipts, sealed_sample
from tests.verify.journal import VERIFIER
from tests.verify.prover import Prover

PROVER = Prover(sealed_sample())
RECEIPTS = ReceiptVerifier(ALL)
EXPORT = b"".join(PROVER.journal.export())


def read_receipt(data: bytes) -> None:
    report = accepted(data, RECEIPTS)
    if report is not None and not is_true(report, PROVER):
        raise AssertionError("a falsehood was accepted")


def read_export(data: bytes) -> None:
    report = verify_export(data.splitlines(keepends=True), VERIFIER)
    if report.root != PROVER.journal.root():
        raise AssertionError("another journal was accepted")


def read_note(data: bytes) -> None:
    if open_note(data, ALL.keys).text != PROVER.note.partition("\n\n")[0] + "\n":
        raise AssertionError("another text was accepted")


TARGETS: dict[str, tuple[Callable[[bytes], Any], list[bytes]]] = {
    "note": (read_note, [PROVER.note.encode()]),
    "policy": (TrustPolicy.parse, [str(ALL).encode()]),
    "tlog_proof": (
        lambda data: TlogProof.parse(data.decode("utf-8", "surrogateescape")),
        [str(TlogProof(3, (bytes(32),), PROVER.note)).encode()],
    ),
    "receipt": (read_receipt, [encoded(receipt) for receipt in receipts(PROVER)]),
    "add_checkpoint": (AddCheckpoint.parse, [bytes(AddCheckpoint(5, (bytes(32),), PROVER.note))]),
    "export": (read_export, [EXPORT]),
}


def prepare(name: str, corpus: Path) -> Callable[[bytes], None]:
    """Fill the corpus with honest examples; what the fuzzer calls."""
    target, examples = TARGETS[name]
    corpus.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(examples):
        (corpus / f"honest-{number}").write_bytes(example)

    def one_input(data: bytes) -> None:
        try:
            target(data)
        except VerificationError:
            return

    return one_input
