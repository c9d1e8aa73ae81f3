"""Replicas that cosign, with real stores and real keys, and a network that loses what a test wants lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from node.checkpoints import Checkpoints
from node.cosigning import Cosigning
from node.key_journal import KEYS_TABLE, SYSTEM_LEDGER, KeyJournal
from node.notices import NodeNotice, decode_notice
from node.own_keys import LogKeys, ReplicaKeys
from node.signing_keys import create_log_key
from stele.format.canonical import canonicalize
from stele.format.key_statement import set_log_text, set_replica_text
from stele.format.note import SigningKey, sign_note
from storage.checkpoints import Cosignature
from storage.commands import Command, CreateLedger, CreateTable, Operation, Seal, Transact, encode_group
from storage.store import LedgerInfo, Store

LEDGER = "sample"
NODES = ("n0", "n1", "n2")
_RANDOM = random.Random(4)

Lost = Callable[[str, str, NodeNotice], bool]


class CosigningNode:
    """One replica: its store, its keys, and what it has to say to others."""

    def __init__(self, node_id: str, folder: Path, clock: Callable[[], float]) -> None:
        self.node_id = node_id
        self._folder = folder
        self._clock = clock
        self.outbox: list[tuple[str | None, bytes]] = []
        self.entries: list[bytes] = []
        self.open()

    def open(self) -> None:
        """Also after `close`: what was only in memory is gone."""
        self.outbox.clear()
        self.store = Store.open(self._folder / self.node_id)
        self.log_keys = LogKeys(self._folder / "log-key.pem")
        self.own = ReplicaKeys(
            f"demo/{self.node_id}", self._folder / f"{self.node_id}.pem", self.store.checkpoints
        )
        none: Any = None  # Nothing is recorded here, only read.
        self.keys = KeyJournal(self.store, none, none, none)
        self.checkpoints = Checkpoints(self.store, "demo", self.log_keys, self.keys.history)
        self.cosigning = Cosigning(
            self.node_id,
            self.store,
            self.checkpoints,
            self.keys,
            self.own,
            notify=lambda peer_id, body: self.outbox.append((peer_id, body)),
            monotonic_s=self._clock,
            time_s=lambda: 1_700_000_000 + self._clock(),
            on_statement=lambda note: None,
            voters=lambda: NODES,
        )

    def close(self) -> None:
        self.store.close()

    def apply(self, payload: bytes) -> None:
        machine = self.store.machine
        machine.apply(machine.applied_index + 1, payload)
        self.entries.append(payload)
        self.cosigning.applied()

    @property
    def info(self) -> LedgerInfo:
        info = self.store.ledger(LEDGER)
        assert info is not None
        return info

    @property
    def sealed_size(self) -> int:
        sealed = self.store.sealed(LEDGER)
        assert sealed is not None
        return sealed.size

    def gathered(self, size: int | None = None) -> list[Cosignature]:
        return self.store.checkpoints.cosignatures(self.info.number, size or self.sealed_size)

    def names(self, size: int | None = None) -> list[str]:
        return [each.name for each in self.gathered(size)]


class World:
    """Three replicas that apply the same entries; `turn` lets them cosign and talk."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 0.0
        create_log_key(folder / "log-key.pem")
        self.nodes = {each: CosigningNode(each, folder, lambda: self.now_s) for each in NODES}
        self.log = SigningKey(f"demo/{SYSTEM_LEDGER}", self["n0"].log_keys.first)
        for ledger, table in ((SYSTEM_LEDGER, KEYS_TABLE), (LEDGER, "cars")):
            self.apply(CreateLedger(ledger, _bytes(16), _bytes(16), 1, "tester", True))
            self.apply(CreateTable(ledger, table, _bytes(16), 1, "tester", _bytes(32)))

    def __getitem__(self, node_id: str) -> CosigningNode:
        return self.nodes[node_id]

    def close(self) -> None:
        for node in self.nodes.values():
            node.close()

    def apply(self, command: Command, only: tuple[str, ...] = NODES) -> None:
        payload = encode_group([command])
        for node_id in only:
            self[node_id].apply(payload)

    def record_keys(self) -> None:
        self.state(sign_note(set_log_text(self.log.verifier_key()), self.log))
        for node_id in NODES:
            own = self[node_id].own.keys
            text = set_replica_text(node_id, own.verifier_keys)
            self.state(sign_note(text, self.log, own.plain))

    def state(self, note: str) -> None:
        """Record a statement about keys."""
        payload = canonicalize({"statement": note})
        operation = Operation("put", KEYS_TABLE, "key", payload, _bytes(32))
        self.apply(Transact(SYSTEM_LEDGER, _bytes(16), 1, "tester", (operation,)))

    def write(self, only: tuple[str, ...] = NODES) -> int:
        """A block and a seal; the size right after it."""
        operation = Operation("put", "cars", "car", b"{}", _bytes(32))
        self.apply(Transact(LEDGER, _bytes(16), 1, "tester", (operation,)), only)
        info, sealed = self[only[0]].info, self[only[0]].store.sealed(LEDGER)
        size, root = (0, bytes(32)) if sealed is None else (sealed.size, sealed.root)
        self.apply(Seal(LEDGER, info.id, _bytes(16), 1, "tester", size, root), only)
        return self[only[0]].sealed_size

    def turn(self, lost: Lost = lambda source, target, notice: False) -> None:
        """Everybody has a round, until nobody has anything to say."""
        for _ in range(20):
            for node in self.nodes.values():
                node.cosigning.round()
            if not self._deliver(lost):
                return
        raise AssertionError("they never stop talking")

    def _deliver(self, lost: Lost) -> int:
        delivered = 0
        for source, node in self.nodes.items():
            said, node.outbox = list(node.outbox), []
            for peer_id, body in said:
                for target in NODES if peer_id is None else (peer_id,):
                    if target != source and not lost(source, target, decode_notice(body)):
                        self[target].cosigning.take(source, body)
                        delivered += 1
        return delivered

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds


def _bytes(count: int) -> bytes:
    return _RANDOM.randbytes(count)


def ed25519_of(node: CosigningNode) -> Any:
    """The private half of a node's key, as somebody has it who stole it."""
    return cast(Any, node.own.keys)._private_keys[0]
