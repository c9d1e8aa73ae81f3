"""Seals: the state root they commit to, proofs against it, and what survives a restart."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from stele.format import state_map
from stele.format.block import parse_header
from stele.format.merkle import leaf_hash
from stele.verify.state_map import StateRow, place_of, verify_state
from storage import directory, limits
from storage.errors import InvariantBroken, NotSealed
from tests.storage.driver import LEDGER, Driver, committed, refused
from tests.storage.near import as_json


def proven(driver: Driver, table: str, key: str) -> StateRow | None:
    """What a stranger learns of a document from the newest seal."""
    info, sealed = driver.store.ledger(LEDGER), driver.store.sealed(LEDGER)
    assert info is not None
    assert sealed is not None
    found = driver.store.view(LEDGER).table(table)
    assert found is not None
    proof = driver.store.state_proof(LEDGER, table, key)
    return verify_state(as_json(proof), place_of(info.id.hex(), found.id, key), sealed.state_root)


def root_by_definition(driver: Driver) -> bytes:
    """The state root from the journal's leaves alone, by the definition of the format."""
    info = driver.store.ledger(LEDGER)
    assert info is not None
    journal = driver.store.journal(LEDGER)
    rows: dict[bytes, bytes] = {}
    for seq in range(journal.size):
        for encoded in journal.block(seq).leaves:
            leaf = msgspec.json.decode(encoded)
            hashed = state_map.key_hash(info.id, leaf["table"], leaf["key"])
            rows[hashed] = state_map.pack_row(hashed, leaf["version"], seq, leaf_hash(encoded))
    return state_map.state_root(list(rows.values()))


def write(driver: Driver, *keys: str) -> int:
    puts = [driver.put("cars", key, {"n": len(driver.entries)}) for key in keys]
    return committed(driver.one(driver.transact(*puts))).seq


def test_a_seal_commits_to_the_newest_revision_of_every_key(driver: Driver) -> None:
    write(driver, "a", "b", "c")
    second = write(driver, "b")
    deleted = committed(driver.one(driver.transact(driver.delete("cars", "c")))).seq
    expected = root_by_definition(driver)
    seal = committed(driver.one(driver.seal()))
    header = parse_header(driver.store.journal(LEDGER).header(seal.seq))
    assert (header.kind, header.state_root) == ("seal", expected.hex())
    sealed = driver.store.sealed(LEDGER)
    assert sealed is not None
    assert (sealed.seal_seq, sealed.size) == (seal.seq, driver.store.journal(LEDGER).size)
    assert sealed.root == driver.store.journal(LEDGER).root(sealed.size)
    b, c = proven(driver, "cars", "b"), proven(driver, "cars", "c")
    assert b is not None
    assert (b.version, b.seq) == (1, second)
    assert c is not None
    assert (c.version, c.seq) == (1, deleted)
    assert proven(driver, "cars", "never") is None


def test_proofs_are_as_of_the_newest_seal(driver: Driver) -> None:
    first = write(driver, "a")
    with pytest.raises(NotSealed):
        driver.store.state_proof(LEDGER, "cars", "a")
    driver.one(driver.seal())
    write(driver, "a", "b")
    row = proven(driver, "cars", "a")
    assert row is not None
    assert (row.version, row.seq) == (0, first)
    assert proven(driver, "cars", "b") is None
    driver.one(driver.seal())
    row = proven(driver, "cars", "a")
    assert row is not None
    assert row.version == 1


def test_seals_are_found_by_the_size_they_cover(driver: Driver) -> None:
    sealed = []
    for n in range(4):
        write(driver, f"k{n}")
        driver.one(driver.seal())
        sealed.append(driver.store.sealed(LEDGER))
    store = driver.store
    assert store.seals(LEDGER, 0, 10) == sealed
    for size in range(1, store.journal(LEDGER).size + 1):
        covering = next(each for each in sealed if each is not None and each.size >= size)
        assert store.seal_at_or_after(LEDGER, size) == covering
    assert store.seal_at_or_after(LEDGER, store.journal(LEDGER).size + 1) is None


def test_nothing_new_is_not_sealed(driver: Driver) -> None:
    write(driver, "a")
    committed(driver.one(driver.seal()))
    size = driver.store.journal(LEDGER).size
    assert refused(driver.one(driver.seal())).reason == "nothing-to-seal"
    assert driver.store.journal(LEDGER).size == size


def test_seals_and_writes_of_one_entry_see_each_other(driver: Driver) -> None:
    first, second = driver.seal(), driver.seal()
    puts = [driver.transact(driver.put("cars", key, {})) for key in ("a", "a", "b")]
    outcomes = driver.apply(puts[0], first, puts[1], second, puts[2])
    assert [committed(each).seq for each in outcomes] == [3, 4, 5, 6, 7]
    row = proven(driver, "cars", "a")
    assert row is not None
    assert (row.version, row.seq) == (1, 5)
    assert proven(driver, "cars", "b") is None
    expected = root_by_definition(driver)
    driver.one(driver.seal())
    sealed = driver.store.sealed(LEDGER)
    assert sealed is not None
    assert sealed.state_root == expected


def test_what_was_unsealed_is_sealed_after_a_restart(driver: Driver) -> None:
    write(driver, "a", "b")
    driver.one(driver.seal())
    before = driver.store.sealed(LEDGER)
    write(driver, "b", "c")
    driver.one(driver.transact(driver.delete("cars", "a")))
    driver.reopen()
    assert driver.store.sealed(LEDGER) == before
    row = proven(driver, "cars", "b")
    assert row is not None
    assert row.version == 0
    write(driver, "d")
    expected = root_by_definition(driver)
    driver.one(driver.seal())
    sealed = driver.store.sealed(LEDGER)
    assert sealed is not None
    assert sealed.state_root == expected


@pytest.mark.parametrize(("slice_keys", "staged_max"), [(1, 1_000), (3, 1_000), (2, 6)])
def test_seals_worked_on_ahead_are_as_any_other(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, slice_keys: int, staged_max: int
) -> None:
    """In slices or at once, also past the bound and after a restart; and proofs stay as of the last seal."""
    monkeypatch.setattr(limits, "SEAL_STAGED_ROWS_MAX", staged_max)
    shown: list[StateRow | None] = []
    for n in range(40):
        write(driver, f"k{n % 7}", f"x{n}", "hot")
        driver.store.machine.work_ahead([LEDGER], slice_keys)
        if shown:
            assert [proven(driver, "cars", key) for key in ("hot", "k0", f"x{n}")] == [*shown, None]
        state = driver.store.machine.ledgers[LEDGER]
        assert state.map.staged_rows < staged_max + 3
        assert state.unsealed_keys > 0
        if n % 9 == 8:
            expected = root_by_definition(driver)
            driver.one(driver.seal())
            sealed = driver.store.sealed(LEDGER)
            assert sealed is not None
            assert sealed.state_root == expected
            assert state.unsealed_keys == 0
            shown = [proven(driver, "cars", key) for key in ("hot", "k0")]
        if n == 22:
            driver.reopen()


def test_more_unsealed_keys_than_are_kept(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEAL_STAGED_ROWS_MAX", 4)
    monkeypatch.setattr(limits, "UNSEALED_KEYS_KEPT_MAX", 3)
    write(driver, "a")
    driver.one(driver.seal())
    before = proven(driver, "cars", "a")
    for n in range(20):
        write(driver, f"k{n % 7}", f"x{n}", "a")
        driver.store.machine.work_ahead([LEDGER], 2)
        assert driver.store.machine.ledgers[LEDGER].unsealed_keys <= 3 + 4 + 3
        assert proven(driver, "cars", "a") == before
    expected = root_by_definition(driver)
    driver.one(driver.seal())
    sealed = driver.store.sealed(LEDGER)
    assert sealed is not None
    assert sealed.state_root == expected


def test_a_replica_with_another_journal_says_so_and_goes_on_with_its_own(driver: Driver) -> None:
    """It cannot know whose is wrong; node/disputes.py finds out."""
    machine = driver.store.machine
    write(driver, "a")
    driver.one(driver.seal())
    sealed = driver.store.sealed(LEDGER)
    assert sealed is not None
    write(driver, "b")
    other_root = msgspec.structs.replace(driver.seal(), previous_root=b"\1" * 32)
    committed(driver.one(other_root))
    (dispute,) = machine.disputes
    assert (dispute.ledger, dispute.size) == (LEDGER, sealed.size)
    assert (dispute.theirs, dispute.own) == (b"\1" * 32, sealed.root)
    write(driver, "c")
    assert not machine.disputes
    committed(driver.one(msgspec.structs.replace(driver.seal(), previous_size=2)))
    (missing,) = machine.disputes
    assert missing.own is None


def test_a_seal_behind_a_newer_one_is_no_divergence(driver: Driver) -> None:
    """A new leader may propose before it has applied the seal that the old one left in the log."""
    write(driver, "a")
    driver.one(driver.seal())
    late = driver.seal()
    write(driver, "b")
    driver.one(driver.seal())
    assert refused(driver.one(late)).reason == "nothing-to-seal"
    write(driver, "c")
    committed(driver.one(late))


def test_a_seal_for_a_ledger_that_was_made_anew_is_refused(driver: Driver) -> None:
    command = msgspec.structs.replace(driver.seal(), id=bytes(16))
    assert refused(driver.one(command)).reason == "ledger-unknown"


def test_a_changed_bucket_stops_the_next_start(driver: Driver, tmp_path: Path) -> None:
    from storage.engine import Batch, Engine
    from storage.store import Store

    write(driver, "a", "b")
    driver.one(driver.seal())
    driver.store.close()
    engine = Engine(driver.path / directory.STORE)
    key, rows = next(engine.scan(b"S", b"T"))
    batch = Batch()
    batch.put(key, rows[:40] + b"\xff" + rows[41:])
    engine.write(batch)
    engine.close()
    with pytest.raises(InvariantBroken, match="state map"):
        Store.open(driver.path)
    driver.store = Store.open(tmp_path / "another")
