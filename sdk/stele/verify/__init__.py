"""The independent verifier: proofs, documents and whole journals, checked without trusting a server.

It shares no code with what makes proofs; it has its own hashing, tree and note parsing. Every
failure raises a `VerificationError`.
"""

from stele.verify.checkpoint import Checkpoint, TrustPolicy, parse_checkpoint, verify_growth
from stele.verify.document import verify_document
from stele.verify.errors import VerificationError
from stele.verify.export import ExportReport, ExportVerifier, verify_export
from stele.verify.note import VerifierKey, open_note
from stele.verify.state_map import StateRow, place_of, verify_state

__all__ = [
    "Checkpoint",
    "ExportReport",
    "ExportVerifier",
    "StateRow",
    "TrustPolicy",
    "VerificationError",
    "VerifierKey",
    "open_note",
    "parse_checkpoint",
    "place_of",
    "verify_document",
    "verify_export",
    "verify_growth",
    "verify_state",
]
