"""Every view, at every block, against a plain model of the ledger; before and after a restart."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from stele.format.merkle import leaf_hash, root_of_leaves
from storage import fsck
from storage.errors import BlockUnknown
from storage.outcomes import Committed
from tests.storage.driver import LEDGER, Driver, committed

KEYS = st.sampled_from(["a", "a b", "ab", "b", "ä", "ü", "\U0001f697", "zz"])
Model = dict[str, list[tuple[int, str, int]]]


class LedgerModel(RuleBasedStateMachine):
    """Puts, deletes, transactions and restarts; the model keeps (seq, op, value) of every revision."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="stele-views-"))
        self.driver = Driver(self.root / "store")
        self.model: Model = {}
        self.count = 0

    @initialize()
    def create(self) -> None:
        self.driver.create("cars")

    def _committed(self, key: str, op: str, seq: int) -> None:
        self.model.setdefault(key, []).append((seq, op, self.count))

    @rule(keys=st.lists(KEYS, min_size=1, max_size=4))
    def put(self, keys: list[str]) -> None:
        self.count += 1
        operations = [self.driver.put("cars", key, {"n": self.count}) for key in keys]
        outcome = committed(self.driver.one(self.driver.transact(*operations)))
        for key in keys:
            self._committed(key, "put", outcome.seq)

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        outcome = self.driver.one(self.driver.transact(self.driver.delete("cars", key)))
        live = bool(self.model.get(key)) and self.model[key][-1][1] == "put"
        assert isinstance(outcome, Committed) == live
        if isinstance(outcome, Committed):
            self._committed(key, "delete", outcome.seq)

    @rule()
    def restart(self) -> None:
        self.driver.reopen()

    @rule(data=st.data())
    def read_the_past(self, data: st.DataObject) -> None:
        size = self.driver.store.journal(LEDGER).size
        seq = data.draw(st.integers(1, size - 1))
        view = self.driver.store.view(LEDGER, seq)
        shown = {key: [r for r in revisions if r[0] <= seq] for key, revisions in self.model.items()}
        for key, revisions in shown.items():
            got = view.get("cars", key)
            assert (got is None) == (not revisions)
            if got is not None:
                assert (got.seq, got.op, got.version) == (*revisions[-1][:2], len(revisions) - 1)
                history = view.history("cars", key, None, 1_000)
                assert [r.version for r in history] == list(range(len(revisions) - 1, -1, -1))
                middle = view.version("cars", key, len(revisions) // 2)
                assert (middle is None) == (len(revisions) // 2 >= len(revisions))
        prefix = data.draw(st.sampled_from(["", "a", "ab", "zz", "x"]))
        after = data.draw(st.sampled_from(["", "a", "b"]))
        live = sorted(
            k for k, r in shown.items() if r and r[-1][1] == "put" and k.startswith(prefix) and k > after
        )
        assert [r.key for r in view.scan("cars", prefix, after, 1_000)] == live
        assert [r.key for r in view.scan("cars", prefix, after, 2)] == live[:2]

    @invariant()
    def tree_is_that_of_the_headers(self) -> None:
        if self.driver.store.ledger(LEDGER) is None:
            return
        journal = self.driver.store.journal(LEDGER)
        hashes = [leaf_hash(journal.header(seq)) for seq in range(journal.size)]
        assert journal.root(journal.size) == root_of_leaves(hashes)

    def teardown(self) -> None:
        self.driver.store.close()
        report = fsck.check(self.root / "store")
        shutil.rmtree(self.root)
        assert report.findings == []


TestLedgerModel = LedgerModel.TestCase
TestLedgerModel.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_a_view_at_a_time(driver: Driver) -> None:
    outcomes = [committed(driver.one(driver.transact(driver.put("cars", "a", {"n": n})))) for n in range(5)]
    store = driver.store
    assert store.seq_at(LEDGER, outcomes[0].at - 1) == outcomes[0].seq - 1
    for outcome in outcomes:
        assert store.seq_at(LEDGER, outcome.at) == outcome.seq
        assert store.seq_at(LEDGER, outcome.at + 999) == outcome.seq
    assert store.seq_at(LEDGER, 0) is None


def test_a_view_of_a_block_that_is_not_there(driver: Driver) -> None:
    with pytest.raises(BlockUnknown, match="there is no block 99: the journal has blocks 0 to 2"):
        driver.store.view(LEDGER, 99)
