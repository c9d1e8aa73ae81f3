"""A whole ledger in a few lines, made with stele.format, for servers that then lie about it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stele.format import block, merkle
from stele.format.canonical import canonicalize
from stele.format.note import SigningKey, checkpoint_text, sign_note
from stele.format.times import format_time

TABLE = "default@1"


class Log:
    """A journal of one document a block, in table "default" of ledger "cars"."""

    def __init__(self, *, seed: int = 1, ledger_id: bytes = b"L" * 16) -> None:
        key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.key = SigningKey("test/cars", key)
        self.ledger_id = ledger_id
        self.leaves: list[bytes] = []
        self.headers: list[bytes] = []
        self.answers: dict[str, dict[str, Any]] = {}
        info = hashlib.sha256(block.information_bytes("test")).digest()
        self._append(
            block.genesis_header_bytes(
                ledger=ledger_id, name="cars", at_us=0, tx=bytes(16), information_hash=info
            )
        )
        self._append(self._header(merkle.EMPTY_ROOT, 0))

    @property
    def size(self) -> int:
        return len(self.headers)

    def put(self, key: str, data: dict[str, Any]) -> None:
        salt = hashlib.sha256(f"{key} {self.size}".encode()).digest()
        commitment = block.commitment(salt, canonicalize(data)).hex()
        leaf = block.leaf_bytes(TABLE, key, 0, "put", None, commitment)
        self._append(self._header(merkle.leaf_hash(leaf), 1))
        self.answers[key] = {"data": data, "salt": salt.hex(), "leaf": leaf, "seq": self.size - 1}

    def checkpoint(self) -> str:
        root = merkle.root_of_leaves(self.leaves)
        return sign_note(checkpoint_text(self.key.name, self.size, root), self.key)

    def document(self, key: str) -> dict[str, Any]:
        """The answer of GET …/documents/{key}?proof=true."""
        kept = self.answers[key]
        seq = kept["seq"]
        header = block.parse_header(self.headers[seq])
        proof = {
            "header": decoded(self.headers[seq]),
            "leaf": decoded(kept["leaf"]),
            "salt": kept["salt"],
            "leaf_index": 0,
            "leaf_path": [],
            "size": self.size,
            "path": [node.hex() for node in merkle.path_in_leaves(self.leaves, seq)],
            "checkpoint": self.checkpoint(),
        }
        members = {"key": key, "version": 0, "seq": seq, "tx": header.tx, "at": header.at}
        return members | {"data": kept["data"], "proof": proof}

    def consistency(self, old: int, new: int) -> list[str]:
        def read(level: int, index: int) -> bytes:
            return merkle.root_of_leaves(self.leaves[index << level : (index + 1) << level])

        return [node.hex() for node in merkle.consistency_proof(old, new, read)]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """An honest server of this log."""
        path = request.path.removeprefix("/v1/ledgers/cars")
        if path == "":
            return web.json_response(self.information())
        if path == "/checkpoint":
            return web.Response(text=self.checkpoint())
        if path == "/proofs/consistency":
            old, new = int(request.query["from"]), int(request.query["to"])
            return web.json_response({"from": old, "to": new, "path": self.consistency(old, new)})
        if path.startswith("/tables/default/documents/"):
            return web.json_response(self.document(path.rpartition("/")[2]))
        raise web.HTTPNotFound

    def information(self) -> dict[str, Any]:
        return {
            "name": "cars",
            "id": self.ledger_id.hex(),
            "size": self.size,
            "created_at": format_time(0),
            "deletion_protection": True,
            "verifier_key": self.key.verifier_key(),
        }

    def _header(self, revision_root: bytes, count: int) -> bytes:
        return block.header_bytes(
            ledger=self.ledger_id,
            seq=self.size,
            prev=self.leaves[-1],
            at_us=self.size * 1_000_001,
            tx=self.size.to_bytes(16, "big"),
            information_hash=hashlib.sha256(block.information_bytes("test")).digest(),
            revision_count=count,
            revision_root=revision_root,
        )

    def _append(self, header: bytes) -> None:
        self.headers.append(header)
        self.leaves.append(merkle.leaf_hash(header))


def decoded(data: bytes) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(data)
    return members
