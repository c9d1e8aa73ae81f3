"""A small journal in memory for tests: builds blocks, exports and document answers from stele.format.

It writes whatever it is told, also what no honest server would: that is what the verifier is tested on.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stele.format import block, merkle
from stele.format.canonical import canonicalize
from stele.format.note import SigningKey, checkpoint_text, sign_note
from stele.format.times import format_time
from stele.verify.note import VerifierKey
from tests.verify import naive_map
from tests.verify.cosigning import cosign

LEDGER = bytes(range(16))
NAME = "registry"
KEY = SigningKey(f"cluster/{NAME}", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
VERIFIER = VerifierKey.parse(KEY.verifier_key())
START_US = 1_795_000_000_000_000

Members = dict[str, Any]


@dataclass
class Write:
    """One revision to build; what is left out follows from the journal so far."""

    table: str
    key: str
    data: Members | None
    version: int | None = None
    prev_seq: int | Literal["right"] | None = "right"


@dataclass
class Journal:
    """Blocks as dicts of JSON, with the headers' bytes for the tree."""

    name: str = NAME
    ledger: bytes = LEDGER
    blocks: list[Members] = field(default_factory=list)
    headers: list[bytes] = field(default_factory=list)
    newest: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    replicas: tuple[SigningKey, ...] = ()
    key: SigningKey = KEY

    def __post_init__(self) -> None:
        if not self.blocks:
            information = block.information_bytes("root")
            header = block.genesis_header_bytes(
                ledger=self.ledger,
                name=self.name,
                at_us=START_US,
                tx=_id(0),
                information_hash=_sha256(information),
            )
            self._add(header, information, [])

    @property
    def size(self) -> int:
        return len(self.blocks)

    def create_table(self, name: str) -> str:
        """Append the block that creates a table and return the table's id."""
        seq = self.append([Write("$tables@0", name, {"name": name, "indexes": [], "state": "active"})])
        return f"{name}@{seq}"

    def append(
        self, writes: list[Write], *, at_us: int | None = None, idempotency_key: str | None = None
    ) -> int:
        """Append a block and return its seq."""
        seq = self.size
        revisions, leaves = [], []
        for index, write in enumerate(writes):
            leaf, revision = self._revision(write, seq, index)
            leaves.append(merkle.leaf_hash(leaf))
            revisions.append(revision)
        information = block.information_bytes("tester", idempotency_key)
        header = block.header_bytes(
            ledger=self.ledger,
            seq=seq,
            prev=merkle.leaf_hash(self.headers[-1]),
            at_us=START_US + seq * 1_000 if at_us is None else at_us,
            tx=_id(seq),
            information_hash=_sha256(information),
            revision_count=len(writes),
            revision_root=merkle.root_of_leaves(leaves),
        )
        return self._add(header, information, revisions)

    def root(self, size: int | None = None) -> bytes:
        return merkle.root_of_leaves([merkle.leaf_hash(header) for header in self.headers[:size]])

    def checkpoint(self, size: int | None = None) -> str:
        size = self.size if size is None else size
        return sign_note(checkpoint_text(self.key.name, size, self.root(size)), self.key)

    def start(self, first: int = 0, end: int | None = None) -> Members:
        """The first line of an export."""
        return {
            "export": 1,
            "ledger": self.ledger.hex(),
            "name": self.name,
            "from": first,
            "to": self.size if end is None else end,
            "size": self.size,
            "checkpoint": self.checkpoint(),
        }

    def export(self, first: int = 0, end: int | None = None) -> list[bytes]:
        """The lines of an export."""
        return [to_line(self.start(first, end)), *map(to_line, self.blocks[first:end])]

    def seal(self, *, state_root: bytes | None = None) -> int:
        """Append a seal of everything so far, or of something else, and return its seq."""
        seq = self.size
        information = block.information_bytes("sealer")
        members = {
            "at": format_time(START_US + seq * 1_000),
            "format": 1,
            "info": _sha256(information).hex(),
            "kind": "seal",
            "ledger": self.ledger.hex(),
            "prev": merkle.leaf_hash(self.headers[-1]).hex(),
            "revision_count": 0,
            "revision_root": merkle.EMPTY_ROOT.hex(),
            "seq": seq,
            "state_root": (state_root or naive_map.root(self.state_rows(seq))).hex(),
            "tx": _id(seq).hex(),
        }
        return self._add(canonicalize(members), information, [])

    def state_rows(self, size: int) -> naive_map.Rows:
        """The newest revision of every key in the first `size` blocks."""
        rows: naive_map.Rows = {}
        for seq, served in enumerate(self.blocks[:size]):
            for revision in served["revisions"]:
                leaf = revision["leaf"]
                hashed = naive_map.key_hash(self.ledger, leaf["table"], leaf["key"])
                tail = naive_map.row_tail(leaf["version"], seq, merkle.leaf_hash(canonicalize(leaf)))
                rows[hashed] = tail
        return rows

    def cosigned(self, size: int | None = None) -> str:
        """The checkpoint with the cosignatures of all replicas."""
        note = self.checkpoint(size)
        return note + "".join(cosign(note, replica, timestamp_s=1_795_000_000) for replica in self.replicas)

    def _revision(self, write: Write, seq: int, index: int) -> tuple[bytes, Members]:
        version, prev_seq = self.newest.get((write.table, write.key), (-1, None))
        version = version + 1 if write.version is None else write.version
        previous = prev_seq if write.prev_seq == "right" else write.prev_seq
        salt = _sha256(f"{seq} {index}".encode())
        payload = b"" if write.data is None else canonicalize(write.data)
        op: Literal["put", "delete"] = "delete" if write.data is None else "put"
        commitment = block.commitment(salt, payload).hex()
        leaf = block.leaf_bytes(write.table, write.key, version, op, previous, commitment)
        self.newest[write.table, write.key] = version, seq
        revision: Members = {"leaf": json.loads(leaf), "salt": salt.hex()}
        if write.data is not None:
            revision["data"] = json.loads(payload)
        return leaf, revision

    def _add(self, header: bytes, information: bytes, revisions: list[Members]) -> int:
        self.headers.append(header)
        self.blocks.append(
            {"header": json.loads(header), "info": json.loads(information), "revisions": revisions}
        )
        return len(self.blocks) - 1


def sample() -> Journal:
    """A journal with every kind of block: tables, several revisions, a delete, a key written twice."""
    journal = Journal()
    cars = journal.create_table("cars")
    people = journal.create_table("people")
    journal.append(
        [Write(cars, "vin-1", {"make": "Saab", "year": 1987, "price": 12999.5, "note": "a:b \x1f \\"})]
    )
    journal.append(
        [
            Write(
                cars, "vin-2", {"make": "Škoda", "owners": ["Zoë", {"née": None}], "tiny": 1e-7, "big": 1e300}
            ),
            Write(people, "zoë 😀", {"name": "Zoë", "tags": [], "😀": True}),
            Write(cars, "vin-1", {"make": "Saab", "year": 1988}),
        ],
        idempotency_key="import:1",
    )
    journal.append([Write(cars, "vin-2", None)])
    journal.append([Write(cars, "vin-2", {}), Write(cars, "vin-2", {"make": "Škoda"})])
    journal.append([])
    journal.append([Write(people, f"person-{index}", {"n": index}) for index in range(5)])
    return journal


def to_line(members: Members) -> bytes:
    """One line of NDJSON."""
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def at(seq: int) -> str:
    """The time of block `seq` as the journal writes it."""
    return format_time(START_US + seq * 1_000)


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _id(seq: int) -> bytes:
    return _sha256(b"tx %d" % seq)[:16]
