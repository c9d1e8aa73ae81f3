"""A whole ledger in memory, made with stele.format, for servers that then lie about it."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stele.format import merkle
from stele.format.note import SigningKey
from stele.format.times import format_time
from tests.client.served import problem
from tests.verify.journal import Journal, Write
from tests.verify.prover import Prover


class Log:
    """A journal of one document a block in table "default" of ledger "cars", with a seal after each."""

    def __init__(
        self, *, seed: int = 1, ledger_id: bytes = b"L" * 16, replicas: tuple[SigningKey, ...] = ()
    ) -> None:
        self.key = SigningKey("test/cars", Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))
        self.ledger_id = ledger_id
        self.journal = Journal("cars", ledger_id, replicas=replicas, key=self.key)
        self._table = self.journal.create_table("default")
        self.journal.seal()

    @property
    def size(self) -> int:
        return self.journal.size

    def put(self, key: str, data: dict[str, Any] | None) -> int:
        """Write a revision (None deletes) and seal; the revision's block."""
        seq = self.journal.append([Write(self._table, key, data)])
        self.journal.seal()
        return seq

    def checkpoint(self) -> str:
        return self.journal.cosigned()

    def prover(self, size: int | None = None) -> Prover:
        return Prover(self.journal, size)

    def document(self, key: str) -> dict[str, Any]:
        """The answer of GET …/documents/{key}?proof=true."""
        prover = self.prover()
        return prover.answer(prover.current("default", key))

    def consistency(self, old: int, new: int) -> list[str]:
        leaves = [merkle.leaf_hash(header) for header in self.journal.headers]

        def read(level: int, index: int) -> bytes:
            return merkle.root_of_leaves(leaves[index << level : (index + 1) << level])

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
            return self.read(path.rpartition("/")[2])
        raise web.HTTPNotFound

    def read(self, key: str) -> web.StreamResponse:
        proof = self.prover().current("default", key)
        revision = proof["document"].get("revision")
        if revision is None:
            return problem("not-found", 404, proof=proof)
        if revision["leaf"]["op"] == "delete":
            return problem("gone", 410, proof=proof)
        return web.json_response(self.document(key))

    def information(self) -> dict[str, Any]:
        return {
            "name": "cars",
            "id": self.ledger_id.hex(),
            "size": self.size,
            "created_at": format_time(0),
            "deletion_protection": True,
            "verifier_key": self.key.verifier_key(),
        }
