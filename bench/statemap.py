"""What the state map costs: seals, memory, proofs and the start, on one store without a cluster."""

import base64
import json
import os
import random
import subprocess
import sys
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

from bench import limits, processes
from bench.connection import BenchmarkError
from bench.documents import DOCUMENT_BYTES, key
from stele.format.state_map import StateProof
from stele.verify.state_map import place_of, verify_state
from storage.commands import (
    Command,
    CreateLedger,
    CreateTable,
    Operation,
    Seal,
    Transact,
    encode_group,
)
from storage.limits import SEAL_KEYS_MAX
from storage.outcomes import Committed, LedgerChanged
from storage.seal import keys_until_seal
from storage.store import Store

_LEDGER = "bench"
_TABLE = "transfers"
_LEDGER_ID = bytes(range(16))
_START_US = 1_790_000_000_000_000

_OPEN = """
import os, sys, time
from pathlib import Path
from bench import processes
from storage.seal import keys_until_seal
from storage.store import Store
began_s = time.perf_counter()
store = Store.open(Path(sys.argv[1]))
print(time.perf_counter() - began_s, processes.memory_bytes(os.getpid())[0])
"""


class _Load:
    """Documents and seals for one store, stamped as a leader would, from a fixed seed."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._random = random.Random(1)
        self._index = 0
        self.write_s = 0.0
        self.ahead_s = array("d")
        self.seals_s = array("d")

    def begin(self) -> None:
        at, some = _START_US, self._random.randbytes
        self._apply(
            CreateLedger(_LEDGER, _LEDGER_ID, some(16), at, "bench", True),
            CreateTable(_LEDGER, _TABLE, some(16), at, "bench", some(32)),
        )

    def write(self, first: int, count: int) -> None:
        """One transaction, as a chunk of a bulk load is."""
        some = self._random.randbytes
        operations = tuple(
            Operation("put", _TABLE, key(number), DOCUMENT_BYTES, some(32))
            for number in range(first, first + count)
        )
        self.write_s += self._apply(Transact(_LEDGER, some(16), _START_US, "bench", operations))

    def seal(self) -> None:
        sealed = self.store.sealed(_LEDGER)
        size, root = (0, bytes(32)) if sealed is None else (sealed.size, sealed.root)
        command = Seal(_LEDGER, _LEDGER_ID, self._random.randbytes(16), _START_US, "bench", size, root)
        self.seals_s.append(self._apply(command))

    def _apply(self, *commands: Command) -> float:
        payload = encode_group(commands)
        self._index += 1
        began_s = perf_counter()
        outcomes = self.store.machine.apply(self._index, payload)
        took_s = perf_counter() - began_s
        if not all(isinstance(each, Committed | LedgerChanged) for each in outcomes):
            raise BenchmarkError(f"the store refused a command of the benchmark: {outcomes}")
        began_s = perf_counter()
        self.store.machine.work_ahead([_LEDGER])
        self.ahead_s.append(perf_counter() - began_s)
        return took_s


def run(documents: int, folder: Path, report: Callable[[str], None]) -> None:
    """Load `documents` new documents, a seal as often as a leader has one; then proofs and a start."""
    path = folder / "store"
    store = Store.open(path)
    load = _Load(store)
    load.begin()
    report(
        "| documents | apply us a document | ahead of the seal | seal | longest ahead ms | p50 seal ms | p99"
        " | longest | memory MB |"
    )
    report("|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    done, unsealed, reported = 0, 0, 0
    step = max(documents // limits.STATE_MAP_LINES, SEAL_KEYS_MAX)
    while done < documents:
        count = min(limits.STATE_MAP_CHUNK_DOCUMENTS, documents - done)
        load.write(done, count)
        done, unsealed = done + count, unsealed + count
        if unsealed >= keys_until_seal(store.machine.ledgers[_LEDGER]) or done == documents:
            load.seal()
            unsealed = 0
            if done - reported >= step or done == documents:
                _line(load, done, done - reported, report)
                reported = done
    _proofs(store, documents, report)
    store.close()
    _start(path, report)


def _line(load: _Load, done: int, share: int, report: Callable[[str], None]) -> None:
    """The figures since the last line."""
    seals_ms = sorted(each * 1e3 for each in load.seals_s)
    p50, p99 = seals_ms[len(seals_ms) // 2], seals_ms[len(seals_ms) * 99 // 100]
    memory, _ = processes.memory_bytes(os.getpid())
    write_us, seal_us = load.write_s / share * 1e6, sum(seals_ms) / share * 1e3
    ahead_us, ahead_ms = sum(load.ahead_s) / share * 1e6, max(load.ahead_s) * 1e3
    report(
        f"| {done:,} | {write_us:.1f} | {ahead_us:.1f} | {seal_us:.1f}"
        f" | {ahead_ms:.1f} | {p50:.1f} | {p99:.1f} | {seals_ms[-1]:.1f} | {memory / 1e6:.0f} |"
    )
    load.write_s, load.ahead_s, load.seals_s = 0.0, array("d"), array("d")


def _proofs(store: Store, documents: int, report: Callable[[str], None]) -> None:
    view, sealed = store.view(_LEDGER), store.sealed(_LEDGER)
    table = view.table(_TABLE)
    if table is None or sealed is None:
        raise BenchmarkError("the store has no table or no seal")
    chosen = list(_chosen(documents))
    began_s = perf_counter()
    proofs = [store.state_proof(_LEDGER, table.id, each) for each in chosen]
    make_s = perf_counter() - began_s
    texts = [_text(proof) for proof in proofs]
    parsed = [json.loads(text) for text in texts]
    places = [place_of(_LEDGER_ID.hex(), table.id, each) for each in chosen]
    began_s = perf_counter()
    found = [
        verify_state(proof, place, sealed.state_root) for proof, place in zip(parsed, places, strict=True)
    ]
    check_s = perf_counter() - began_s
    present = sum(row is not None for row in found)
    if present != len(chosen) // 2:
        raise BenchmarkError(f"{present} of {len(chosen)} documents were proven to exist, not every second")
    sizes = sorted(len(text) for text in texts)
    count = len(chosen)
    report(
        f"\nProofs of {count:,} keys, every second one absent: made in {make_s / count * 1e6:.0f} us and"
        f" checked in {check_s / count * 1e6:.0f} us each; {sum(sizes) / count:,.0f} bytes of JSON on"
        f" average, {sizes[-1]:,} at most"
    )


def _text(proof: StateProof) -> str:
    """As an answer shows it."""
    shown, empty = proof.shown_siblings()
    members: dict[str, object] = {"bucket_depth": proof.bucket_depth}
    members |= {"rows": base64.b64encode(proof.rows).decode(), "siblings": base64.b64encode(shown).decode()}
    if empty:
        members["empty"] = base64.b64encode(empty).decode()
    return json.dumps(members, separators=(",", ":"))


def _chosen(documents: int) -> Iterator[str]:
    draw = random.Random(2)
    for _ in range(limits.STATE_MAP_PROOFS // 2):
        number = draw.randrange(documents)
        yield key(number)
        yield key(number) + "-absent"


def _start(path: Path, report: Callable[[str], None]) -> None:
    """Open the store in a process of its own."""
    answer = subprocess.run(
        [sys.executable, "-c", _OPEN, str(path)], check=True, capture_output=True, text=True
    ).stdout.split()
    report(f"Start: {float(answer[0]):.2f} s to open the store; {int(answer[1]) / 1e6:.0f} MB then")
