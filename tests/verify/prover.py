"""Makes proofs and receipts from a test journal: what an honest server would answer."""

from __future__ import annotations

import base64
import copy
from typing import Any

from stele.format import merkle
from stele.format.canonical import canonicalize
from tests.verify import naive_map
from tests.verify.journal import Journal, Members


class Prover:
    """Proves from a journal as it stands at `size`, which must be right after a seal."""

    def __init__(self, journal: Journal, size: int | None = None) -> None:
        self.journal = journal
        self.size = journal.size if size is None else size
        self._rows = journal.state_rows(self.size)
        self._hashes = [merkle.leaf_hash(header) for header in journal.headers[: self.size]]
        self.note = journal.cosigned(self.size)

    def current(self, table: str, key: str) -> Members:
        table_id, active = self._table(table, self.size)
        document = self._newest(table_id, key) if active else {}
        return self._proof(document, self._newest("$tables@0", table, placed=False))

    def revision(self, table: str, key: str, version: int) -> Members:
        table_id, _ = self._table(table, self.size)
        found = [entry for entry in self._revisions(table_id, key) if entry["leaf"]["version"] == version]
        document = {"revision": found[0]} if found else {"state": self._state(table_id, key)}
        return self._proof(document if table_id else {}, self._newest("$tables@0", table, placed=False))

    def as_of(self, table: str, key: str, seq: int) -> Members:
        table_id, active = self._table(table, seq + 1)
        document = self._as_of(table_id, key, seq) if active else {}
        return self._proof(document, self._as_of("$tables@0", table, seq))

    def history(self, table: str, key: str) -> Members:
        table_id, _ = self._table(table, self.size)
        older = self._revisions(table_id, key)[:-1][::-1]
        document = self._newest(table_id, key) if table_id else {}
        if older:
            document["older"] = older
        return self._proof(document, self._newest("$tables@0", table, placed=False))

    def block(self, seq: int) -> Members:
        path = joined(merkle.path_in_leaves(self._hashes, seq))
        return {"checkpoint": self.note, "path": path}

    def receipt(self, kind: str, proof: Members, **members: Any) -> Members:
        head = {
            "receipt": 1,
            "kind": kind,
            "ledger": self.journal.key.name,
            "ledger_id": self.journal.ledger.hex(),
        }
        return {**head, **members, "proof": proof}

    def answer(self, proof: Members) -> Members:
        """A proof that shows a document, as the answer to a GET."""
        proof = copy.deepcopy(proof)
        revision = proof["document"]["revision"]
        header = revision["place"]["header"]
        members = {"key": revision["leaf"]["key"], "version": revision["leaf"]["version"]}
        members |= {"seq": header["seq"], "tx": header["tx"], "at": header["at"]}
        return members | {"data": revision.pop("data"), "proof": proof}

    def _proof(self, document: Members, table: Members) -> Members:
        last = self.size - 1
        seal = {
            "header": self.journal.blocks[last]["header"],
            "path": joined(merkle.path_in_leaves(self._hashes, last)),
        }
        return {"checkpoint": self.note, "document": document, "table": table, "seal": seal}

    def _table(self, name: str, size: int) -> tuple[str, bool]:
        """The table's id and whether it is active, as of a size."""
        entries = [
            entry for entry in self._revisions("$tables@0", name) if entry["place"]["header"]["seq"] < size
        ]
        if not entries:
            return "", False
        newest = entries[-1]
        active = newest["data"]["state"] == "active"
        seq = newest["place"]["header"]["seq"] if active else newest["leaf"]["prev_seq"]
        return f"{name}@{seq}", active

    def _newest(self, table_id: str, key: str, *, placed: bool = True) -> Members:
        entry: Members = {"state": self._state(table_id, key)}
        revisions = self._revisions(table_id, key)
        if revisions:
            entry["revision"] = revisions[-1]
            if not placed:
                del entry["revision"]["place"]
            else:
                del entry["revision"]["place"]["index"], entry["revision"]["place"]["leaf_path"]
        return entry

    def _as_of(self, table_id: str, key: str, seq: int) -> Members:
        entry: Members = {}
        for revision in self._revisions(table_id, key):
            if revision["place"]["header"]["seq"] > seq:
                return {**entry, "successor": {"leaf": revision["leaf"], "place": revision["place"]}}
            entry = {"revision": revision}
        return {**entry, "state": self._state(table_id, key)}

    def _state(self, table_id: str, key: str) -> Members:
        return naive_map.prove(self._rows, naive_map.key_hash(self.journal.ledger, table_id, key))

    def _revisions(self, table_id: str, key: str) -> list[Members]:
        """All revisions of a key, oldest first, with their places."""
        return [
            copy.deepcopy({**revision, "place": self._place(served, index)})
            for served in self.journal.blocks[: self.size]
            for index, revision in enumerate(served["revisions"])
            if (revision["leaf"]["table"], revision["leaf"]["key"]) == (table_id, key)
        ]

    def _place(self, served: Members, index: int) -> Members:
        leaves = [merkle.leaf_hash(canonicalize(other["leaf"])) for other in served["revisions"]]
        seq = served["header"]["seq"]
        return {
            "header": served["header"],
            "index": index,
            "leaf_path": joined(merkle.path_in_leaves(leaves, index)),
            "path": joined(merkle.path_in_leaves(self._hashes, seq)),
        }


def joined(hashes: list[bytes]) -> str:
    return base64.b64encode(b"".join(hashes)).decode()
