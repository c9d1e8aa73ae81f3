"""The state map against its definition: any rows, in any batches, also when buckets split."""

from __future__ import annotations

import base64
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.simulation.disk import Fate, SimulatedDisk
from stele.format import state_map
from stele.format.state_map import EMPTY, pack_row
from stele.verify import state_map as verifier
from stele.verify.errors import InvalidProof, Malformed, VerificationError
from stele.verify.state_map import StateRow, verify_state
from storage import keys, limits
from storage.state_buckets import WriteBack
from storage.state_map import StateMap
from tests.storage.driver import Driver
from tests.storage.near import as_json

HASH = 32


class Rows:
    """A map on a disk in memory: `put` a batch of rows, as a seal does."""

    def __init__(self) -> None:
        self.disk = SimulatedDisk(random.Random(1), lambda synced, deletes: Fate.DONE)
        self.write_back = WriteBack()
        self.map = StateMap(self.disk, 1, self.write_back)
        self.rows: dict[bytes, bytes] = {}
        self.sealed: list[dict[bytes, bytes]] = []
        """What each seal put into it: the journal has one block a seal here."""

    def put(self, rows: Sequence[bytes]) -> None:
        newest = {row[:HASH]: row for row in rows}
        self.map.stage(list(newest.values()))
        self.seal(newest)

    def seal(self, newest: dict[bytes, bytes]) -> None:
        """Of what is staged."""
        self.rows |= newest
        self.sealed.append(newest)
        self.map.seal(len(self.sealed))
        self.write_back.write(self.disk)

    def loaded_again(self) -> Rows:
        """What a start makes of the disk and of what the journal says besides."""
        again = Rows()
        again.disk, again.rows, again.sealed = self.disk, self.rows, list(self.sealed)
        again.map = StateMap(self.disk, 1, again.write_back)
        start = again.map.load()
        missing = {key: row for sealed in self.sealed[start:] for key, row in sealed.items()}
        again.map.stage(list(missing.values()))
        again.map.seal(len(self.sealed))
        return again

    def stored(self) -> dict[bytes, bytes]:
        prefix = keys.of_ledger(b"S", 1)
        return dict(self.disk.scan(prefix, keys.end_of(prefix)))

    def proof(self, key_hash: bytes) -> dict[str, object]:
        return as_json(self.map.proof(key_hash))

    def expected(self, key_hash: bytes) -> StateRow | None:
        row = self.rows.get(key_hash)
        return None if row is None else StateRow(*state_map.unpack_rows(row)[0][1:])


def test_siblings_without_rows_are_left_out() -> None:
    """A proof has one form."""
    rows = Rows()
    rows.put(near(3, 20))
    for key_hash in [next(iter(rows.rows)), bytes(HASH)]:
        proof = rows.map.proof(key_hash)
        whole = as_json(proof) | {"siblings": base64.b64encode(b"".join(proof.siblings)).decode()}
        del whole["empty"]
        with pytest.raises(Malformed, match="siblings"):
            verify_state(whole, key_hash, rows.map.root)
        assert verify_state(as_json(proof), key_hash, rows.map.root) == rows.expected(key_hash)


def near(seed: int, count: int) -> list[bytes]:
    """Rows of one bucket, some of them closer together still, so that splits go deep."""
    chosen = random.Random(seed)
    prefixes = [bytes(3), bytes(5), b"\0\0\x0f\xff" * 4, bytes(20)]
    hashes = {(p := chosen.choice(prefixes)) + chosen.randbytes(HASH - len(p)) for _ in range(count)}
    return [row_of(each, chosen.randrange(5)) for each in sorted(hashes)]


def row_of(key_hash: bytes, version: int) -> bytes:
    return pack_row(key_hash, version, version * 3, bytes([version % 256]) * HASH)


_hashes = st.one_of(
    st.binary(min_size=HASH, max_size=HASH),
    st.binary(min_size=2, max_size=2).map(lambda tail: bytes(HASH - 2) + tail),
    st.binary(min_size=1, max_size=1).map(lambda tail: b"\xff" * (HASH - 1) + tail),
)
_batches = st.lists(st.lists(st.builds(row_of, _hashes, st.integers(0, 300)), max_size=40), max_size=6)


@settings(deadline=None, max_examples=60)
@given(_batches, st.lists(_hashes, max_size=4))
def test_any_batches_make_the_root_of_the_definition(batches: list[list[bytes]], others: list[bytes]) -> None:
    rows = Rows()
    for batch in batches:
        rows.put(batch)
        assert rows.map.root == state_map.state_root(list(rows.rows.values()))
        assert rows.loaded_again().map.root == rows.map.root
    for key_hash in [*list(rows.rows)[:10], *others]:
        assert verify_state(rows.proof(key_hash), key_hash, rows.map.root) == rows.expected(key_hash)


@settings(deadline=None, max_examples=40)
@given(_batches, _batches)
def test_what_is_staged_shows_in_the_next_seal_only(
    sealed: list[list[bytes]], staged: list[list[bytes]]
) -> None:
    rows = Rows()
    for batch in sealed:
        rows.put(batch)
    root = rows.map.root
    for forgotten in (True, False):
        for batch in staged:
            rows.map.stage(batch)
            for row in [*batch[:3], *rows.rows.values()][:6]:
                key_hash = row[:HASH]
                assert verify_state(rows.proof(key_hash), key_hash, root) == rows.expected(key_hash)
        if forgotten:
            rows.map.forget()
            assert rows.map.staged_rows == 0
    assert rows.map.root == root
    rows.seal({row[:HASH]: row for batch in staged for row in batch})
    assert rows.map.root == state_map.state_root(list(rows.rows.values()))


@settings(deadline=None, max_examples=150)
@given(_batches, _batches, st.sampled_from([0, 3, 40, 1_000]), st.sampled_from([0, 5, 60, 1_000]))
def test_the_journal_makes_up_for_what_was_not_written_back(
    batches: list[list[bytes]], more: list[list[bytes]], kept_max: int, redo_max: int
) -> None:
    """Whatever is on the disk when a node dies, and dies again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "STATE_BUCKETS_KEPT_MAX", kept_max)
        patch.setattr(limits, "STATE_REDO_MAX", redo_max)
        patch.setattr(limits, "STATE_WRITE_BACK_MIN", 1)
        rows = Rows()
        for batch in batches:
            rows.put(batch)
            assert rows.loaded_again().map.root == rows.map.root
        rows = rows.loaded_again()
        for batch in more:
            rows.put(batch)
            rows.loaded_again()
            rows = rows.loaded_again()
            assert rows.map.root == state_map.state_root(list(rows.rows.values()))
        rows.write_back.write_all(rows.disk)
        assert rows.write_back.count == len(rows.map.buckets.kept) == 0
        at_once = Rows()
        at_once.put(list(rows.rows.values()))
        at_once.write_back.write_all(at_once.disk)
        assert rows.stored() == at_once.stored()


def test_dirty_buckets_are_few_and_not_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the end: each entry writes back a share of what is too much."""
    monkeypatch.setattr(limits, "STATE_BUCKETS_KEPT_MAX", 200)
    monkeypatch.setattr(limits, "STATE_REDO_MAX", 2_000)
    monkeypatch.setattr(limits, "STATE_WRITE_BACK_MIN", 8)
    rows, chosen = Rows(), random.Random(9)
    hashes = [chosen.randbytes(HASH) for _ in range(6_000)]
    for version in range(2):
        for start in range(0, len(hashes), 50):
            rows.put([row_of(each, version) for each in hashes[start : start + 50]])
            assert rows.write_back.count == len(rows.map.buckets.kept) <= 200 + 8 * 50
    # One bucket that changes all the time does not keep the start of a ledger from getting old.
    for version in range(3_000):
        rows.put([row_of(hashes[0], version)])
    assert len(rows.map.buckets.kept.keys() - rows.map.buckets.clean) == 1
    assert len(rows.sealed) - 3_000 < StateMap(rows.disk, 1, WriteBack()).load() < len(rows.sealed)


@pytest.mark.parametrize("count", [11, 12, 13, 300, 2_000])
def test_full_buckets_split_by_the_rule(count: int) -> None:
    """One after the other or all at once: the tree is a function of the rows alone."""
    drawn = near(count, count)
    at_once, one_by_one = Rows(), Rows()
    at_once.put(drawn)
    chosen = random.Random(7)
    for start in range(0, count, 100):
        part = drawn[start : start + 100]
        chosen.shuffle(part)
        one_by_one.put(part)
    assert at_once.map.root == one_by_one.map.root == state_map.state_root(drawn)
    depths = set()
    for row in drawn[:: max(1, count // 50)]:
        absent = row[: HASH - 1] + bytes([row[HASH - 1] ^ 0x80])
        for key_hash in (row[:HASH], absent):
            proof = at_once.proof(key_hash)
            assert verify_state(proof, key_hash, at_once.map.root) == at_once.expected(key_hash)
            depths.add(proof["bucket_depth"])
    assert (max(int(str(depth)) for depth in depths) > 0) == (count > 12)


def test_the_verifier_replays_what_the_store_makes() -> None:
    """Two implementations, one of which the other never saw, over the same revisions."""
    ledger, chosen = bytes(range(16)), random.Random(5)
    rows, replay = Rows(), verifier.StateReplay(ledger.hex())
    assert replay.root() == rows.map.root == EMPTY
    for batch in range(8):
        changed = []
        for _ in range(200):
            key, version = f"k{chosen.randrange(500)}", batch
            hashed = state_map.key_hash(ledger, "cars@1", key)
            assert hashed == verifier.place_of(ledger.hex(), "cars@1", key)
            leaf = chosen.randbytes(HASH)
            changed.append(pack_row(hashed, version, batch, leaf))
            replay.put("cars@1", key, StateRow(version, batch, leaf))
        rows.put(changed)
        assert replay.root() == rows.map.root


def test_the_tree_is_rebuilt_from_the_buckets(driver: Driver) -> None:
    for n in range(30):
        driver.one(driver.transact(*(driver.put("cars", f"k{n}-{i}", {}) for i in range(20))))
        if n % 7 == 0:
            driver.one(driver.seal())
    driver.one(driver.seal())
    root = driver.store.machine.ledgers["sample"].map.root
    driver.reopen()
    assert driver.store.machine.ledgers["sample"].map.root == root


@pytest.mark.parametrize("count", [3, 500])
def test_no_changed_proof_is_accepted(count: int) -> None:
    rows = Rows()
    rows.put(near(1, count))
    chosen = random.Random(count)
    key_hash = next(iter(rows.rows))
    honest = rows.proof(key_hash)
    siblings = base64.b64decode(str(honest["siblings"]))
    for _ in range(300):
        altered = dict(honest)
        match chosen.randrange(6):
            case 0:
                altered["rows"] = flipped(str(honest["rows"]), chosen)
            case 1 if siblings:
                altered["siblings"] = flipped(str(honest["siblings"]), chosen)
            case 2:
                altered["bucket_depth"] = chosen.randrange(300)
            case 3 if siblings:
                place = chosen.randrange(len(siblings) // HASH) * HASH
                altered["siblings"] = base64.b64encode(siblings[:place] + siblings[place + HASH :]).decode()
            case 4 if "empty" in honest:
                altered["empty"] = flipped(str(honest["empty"]), chosen)
            case _:
                packed = base64.b64decode(str(honest["rows"]))
                place = chosen.randrange(len(packed) // 80) * 80
                altered["rows"] = base64.b64encode(packed[:place] + packed[place + 80 :]).decode()
        if altered != honest:
            with pytest.raises(VerificationError):
                verify_state(altered, key_hash, rows.map.root)
    elsewhere = bytes([key_hash[0] ^ 0x80]) + key_hash[1:]
    if honest["bucket_depth"]:
        with pytest.raises((InvalidProof, Malformed)):
            verify_state(honest, elsewhere, rows.map.root)
    else:
        assert verify_state(honest, elsewhere, rows.map.root) is None


def flipped(text: str, chosen: random.Random) -> str:
    """One character of the base64 text changed: also the bits at its end that carry nothing."""
    place = chosen.randrange(len(text))
    other = chosen.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\n")
    return text[:place] + other + text[place + 1 :]


@pytest.mark.parametrize(
    "wrong",
    [
        {"bucket_depth": 0},
        {"bucket_depth": 18},
        {"bucket_depth": 21},
        {"bucket_depth": 258},
        {"bucket_depth": -20},
        {"rows": "A" * 1_284},
        {"rows": "AAAA"},
        {"rows": None},
        {"siblings": "A" * 16_388},
        {"siblings": "AAAA"},
        {"siblings": ["A" * 43 + "="] * 30},
        {"empty": "AAAAAA=="},
        {"empty": "////"},
        {"empty": "/////w=="},
        {"empty": "AAAAAAAAAAA="},
        {"empty": ""},
        {"empty": "A" * 68},
        {"empty": 7},
        {"more": 1},
    ],
    ids=str,
)
def test_proofs_out_of_bounds_are_malformed(wrong: dict[str, object]) -> None:
    rows = Rows()
    rows.put([row_of(bytes(HASH), 1), *near(4, 20)])
    with pytest.raises(Malformed):
        verify_state(rows.proof(bytes(HASH)) | wrong, bytes(HASH), rows.map.root)
