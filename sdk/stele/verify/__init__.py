"""The independent verifier: proofs, receipts and whole journals, checked without trusting a server.

It shares no code with what makes proofs; it has its own hashing, tree, state map and note parsing. Every
failure raises a `VerificationError`.
"""

from stele.verify.checkpoint import Checkpoint, parse_checkpoint, verify_growth
from stele.verify.document import verify_absence, verify_document
from stele.verify.errors import VerificationError
from stele.verify.export import ExportReport, ExportVerifier, verify_export
from stele.verify.note import VerifierKey, open_note
from stele.verify.policy import TrustPolicy
from stele.verify.proof import ProofVerifier, Proven
from stele.verify.receipt import ReceiptReport, verify_receipt
from stele.verify.state_map import StateRow, place_of, verify_state

__all__ = [
    "Checkpoint",
    "ExportReport",
    "ExportVerifier",
    "ProofVerifier",
    "Proven",
    "ReceiptReport",
    "StateRow",
    "TrustPolicy",
    "VerificationError",
    "VerifierKey",
    "open_note",
    "parse_checkpoint",
    "place_of",
    "verify_absence",
    "verify_document",
    "verify_export",
    "verify_growth",
    "verify_receipt",
    "verify_state",
]
