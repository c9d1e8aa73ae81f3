"""What a transaction does, and what refuses it."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from stele.format.block import commitment, leaf_bytes, parse_header
from stele.format.merkle import leaf_hash, root_of_leaves
from storage import keys, limits
from storage.commands import Condition, DropLedger, SetLedger, encode_command, encode_group, join_group
from storage.errors import InvariantBroken, TableDropped, TableUnknown
from storage.outcomes import LedgerChanged, Outcome
from storage.store import Store
from tests.storage.driver import LEDGER, Driver, committed, refused


def test_a_transaction_is_one_block_of_revisions(driver: Driver) -> None:
    first = driver.put("cars", "a", {"n": 1})
    second = driver.put("people", "b", {"n": 2})
    outcome = committed(driver.one(driver.transact(first, second)))
    block = driver.store.journal(LEDGER).block(outcome.seq)
    header = parse_header(block.header)
    assert outcome.versions == (0, 0)
    assert header.tx == outcome.tx.hex()
    assert header.at_us == outcome.at
    assert header.info == hashlib.sha256(block.information).hexdigest()
    assert header.prev == leaf_hash(driver.store.journal(LEDGER).header(outcome.seq - 1)).hex()
    digest = commitment(first.salt, first.payload).hex()
    assert block.leaves[0] == leaf_bytes("cars@1", "a", 0, "put", None, digest)
    assert header.revision_root == root_of_leaves([leaf_hash(leaf) for leaf in block.leaves]).hex()


def test_revisions_of_one_key_in_one_block_keep_their_order(driver: Driver) -> None:
    outcome = committed(driver.one(driver.transact(*(driver.put("cars", "a", {"n": n}) for n in range(3)))))
    assert outcome.versions == (0, 1, 2)
    view = driver.store.view(LEDGER)
    assert [r.version for r in view.history("cars", "a", None, 10)] == [2, 1, 0]
    newest = view.get("cars", "a")
    assert newest is not None
    assert newest.payload == b'{"n":2}'
    assert newest.prev_seq == outcome.seq


@pytest.mark.parametrize(("table", "reason"), [("absent", "table-unknown"), ("people", "table-dropped")])
def test_a_write_to_a_table_that_is_not_there_is_refused(driver: Driver, table: str, reason: str) -> None:
    committed(driver.one(driver.drop_table("people")))
    size = driver.store.journal(LEDGER).size
    both = driver.transact(driver.put("cars", "a", {}), driver.put(table, "a", {}))
    assert refused(driver.one(both)).reason == reason
    assert driver.store.journal(LEDGER).size == size
    assert driver.store.view(LEDGER).get("cars", "a") is None


def test_version_conditions(driver: Driver) -> None:
    def put(condition: Condition) -> Outcome:
        return driver.one(driver.transact(driver.put("cars", "a", {}), conditions=[condition]))

    absent = Condition("cars", "a", None, None, "absent")
    at_zero = Condition("cars", "a", None, 0, "version")
    assert committed(put(absent)).versions == (0,)
    again = refused(put(absent))
    assert (again.reason, again.current_version, again.condition) == ("version-mismatch", 0, 0)
    assert committed(put(at_zero)).versions == (1,)
    assert refused(put(at_zero)).current_version == 1
    committed(driver.one(driver.transact(driver.delete("cars", "a"))))
    assert committed(put(absent)).versions == (3,), "a deleted document is absent, and its versions go on"


def test_conditions_see_earlier_commands_of_the_same_entry(driver: Driver) -> None:
    absent = Condition("cars", "a", None, None, "absent")
    first, second = (driver.transact(driver.put("cars", "a", {}), conditions=[absent]) for _ in range(2))
    outcomes = driver.apply(first, second)
    committed(outcomes[0])
    assert refused(outcomes[1]).reason == "version-mismatch"


@pytest.mark.parametrize(
    "condition",
    [
        Condition("cars", "ab", None, None, "unchanged"),
        Condition("cars", None, "a", None, "unchanged"),
        Condition("cars", None, None, None, "unchanged"),
    ],
    ids=["key", "prefix", "table"],
)
def test_what_was_read_must_be_unchanged_since_read_seq(driver: Driver, condition: Condition) -> None:
    seen = committed(driver.one(driver.transact(driver.put("cars", "ab", {})))).seq
    put = driver.put("people", "p", {})
    committed(driver.one(driver.transact(put, conditions=[condition], read_seq=seen)))
    committed(driver.one(driver.transact(driver.put("cars", "ab", {"new": True}))))
    outcome = refused(driver.one(driver.transact(put, conditions=[condition], read_seq=seen)))
    assert (outcome.reason, outcome.condition) == ("condition-failed", 0)


def test_a_prefix_condition_ignores_other_keys_and_sees_its_own_entry(driver: Driver) -> None:
    seen = driver.store.journal(LEDGER).size - 1
    condition = Condition("cars", None, "a", None, "unchanged")
    committed(driver.one(driver.transact(driver.put("cars", "b", {}))))
    committed(
        driver.one(driver.transact(driver.put("people", "p", {}), conditions=[condition], read_seq=seen))
    )
    outcomes = driver.apply(
        driver.transact(driver.put("cars", "a1", {})),
        driver.transact(driver.put("people", "q", {}), conditions=[condition], read_seq=seen),
    )
    assert refused(outcomes[1]).reason == "condition-failed"


def test_deleting_what_is_not_there_is_refused(driver: Driver) -> None:
    assert refused(driver.one(driver.transact(driver.delete("cars", "a")))).reason == "document-missing"
    made_and_gone = driver.transact(driver.put("cars", "a", {}), driver.delete("cars", "a"))
    assert committed(driver.one(made_and_gone)).versions == (0, 1)
    assert refused(driver.one(driver.transact(driver.delete("cars", "a")))).reason == "document-missing"


def test_block_times_never_go_back(driver: Driver) -> None:
    late = committed(driver.one(driver.transact(driver.put("cars", "a", {}))))
    driver.now -= 60_000_000
    early = committed(driver.one(driver.transact(driver.put("cars", "b", {}))))
    assert early.at == late.at


def test_a_table_made_again_is_another_table(driver: Driver) -> None:
    committed(driver.one(driver.transact(driver.put("cars", "a", {"n": 1}))))
    before = driver.store.journal(LEDGER).size - 1
    committed(driver.one(driver.drop_table("cars")))
    with pytest.raises(TableDropped):
        driver.store.view(LEDGER).get("cars", "a")
    assert len(driver.store.view(LEDGER).history("cars", "a", None, 10)) == 1
    again = committed(driver.one(driver.create_table("cars")))
    view = driver.store.view(LEDGER)
    table = view.table("cars")
    assert table is not None
    assert table.id == f"cars@{again.seq}"
    assert view.get("cars", "a") is None
    assert driver.store.view(LEDGER, before).get("cars", "a") is not None
    tables = view.tables()
    driver.reopen()
    assert driver.store.view(LEDGER).tables() == tables
    with pytest.raises(TableUnknown):
        driver.store.view(LEDGER, 0).get("cars", "a")


def test_refused_table_changes(driver: Driver) -> None:
    assert refused(driver.one(driver.create_table("cars"))).reason == "table-exists"
    assert refused(driver.one(driver.drop_table("absent"))).reason == "table-unknown"
    committed(driver.one(driver.drop_table("cars")))
    assert refused(driver.one(driver.drop_table("cars"))).reason == "table-dropped"


def test_a_protected_ledger_is_not_dropped_and_a_dropped_one_leaves_nothing(driver: Driver) -> None:
    assert refused(driver.one(DropLedger(LEDGER))).reason == "deletion-protected"
    driver.one(SetLedger(LEDGER, deletion_protection=False))
    written, dropped, late = driver.apply(
        driver.transact(driver.put("cars", "a", {})),
        DropLedger(LEDGER),
        driver.transact(driver.put("cars", "a", {})),
    )
    committed(written)
    assert dropped == LedgerChanged(created=False)
    assert refused(late).reason == "ledger-unknown"
    assert driver.store.ledger(LEDGER) is None
    stored = [key for key, _ in driver.store.engine.scan(*keys.EVERYTHING)]
    assert not [key for key in stored if key[0] in keys.PER_LEDGER_KINDS], "not even what the entry wrote"
    assert refused(driver.one(driver.transact(driver.put("cars", "a", {})))).reason == "ledger-unknown"
    driver.create("cars")
    assert driver.store.view(LEDGER).get("cars", "a") is None
    info = driver.store.ledger(LEDGER)
    assert info is not None
    assert info.number == 2, "a ledger's number is never used again"


def test_two_stores_given_the_same_entries_hold_the_same_bytes(driver: Driver, tmp_path: Path) -> None:
    for n in range(40):
        driver.apply(
            driver.transact(driver.put("cars", f"k{n % 7}", {"n": n}), driver.put("people", f"p{n}", {})),
            driver.transact(driver.delete("cars", f"k{n % 5}"), idempotency_key=f"i{n % 9}"),
        )
    other = Store.open(tmp_path / "other")
    for index, payload in enumerate(driver.entries, start=1):
        other.machine.apply(index, payload)
    mine = list(driver.store.engine.scan(b"", b"\xff"))
    assert mine == list(other.engine.scan(b"", b"\xff"))
    other.close()


def test_versions_count_up_however_little_is_remembered(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RECENT_CURRENT_ROWS", 3)
    chance = random.Random(1)
    places = [(table, f"k{n}") for table in ("cars", "people") for n in range(12)]
    expected = dict.fromkeys(places, 0)
    for _ in range(60):
        chosen = [[*{chance.choice(places): None for _ in range(3)}] for _ in range(4)]
        commands = [driver.transact(*(driver.put(*place, {}) for place in each)) for each in chosen]
        for each, outcome in zip(chosen, driver.apply(*commands), strict=True):
            assert committed(outcome).versions == tuple(expected[place] for place in each)
            for place in each:
                expected[place] += 1
        if chance.random() < 0.1:
            driver.reopen()
    assert min(expected.values()) > 10


def test_versions_count_up_where_keys_ascend(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RECENT_CURRENT_ROWS", 1)
    monkeypatch.setattr(limits, "CURRENT_ROWS_ASCENDING_MIN", 2)
    asked: list[bytes] = []
    get = driver.store.engine.get

    def counted(key: bytes) -> bytes | None:
        asked.append(key)
        return get(key)

    monkeypatch.setattr(driver.store.engine, "get", counted)
    chance = random.Random(3)
    written = 0
    expected: dict[tuple[str, str], int] = {}
    table, first = "cars", 0
    for _ in range(200):
        entry = []
        for _ in range(chance.randint(1, 3)):
            # Now and then a run goes on where the one before ended, in this entry or the last.
            if chance.random() < 0.7:
                table, first = chance.choice(["cars", "people"]), chance.randrange(80)
            count = chance.choice([5, 20])
            if chance.random() < 0.3:
                names = [f"k{first:03}-{n:03}" for n in range(count)]
            else:
                names = [f"k{first + n:03}" for n in range(0, count, chance.choice([1, 1, 2]))]
                first += count
            entry.append([(table, name) for name in names if chance.random() < 0.97])
        commands = [
            driver.transact(*(driver.put(table, name, {}) for table, name in places)) for places in entry
        ]
        for places, outcome in zip(entry, driver.apply(*commands), strict=True):
            assert committed(outcome).versions == tuple(expected.get(place, 0) for place in places)
            expected |= {place: expected.get(place, 0) + 1 for place in places}
            written += len(places)
    assert len([key for key in asked if key.startswith(b"C")]) < written / 2, "most were found by walking"


def test_an_entry_is_never_applied_twice_and_never_out_of_shape(driver: Driver) -> None:
    applied = driver.store.machine.applied_index
    with pytest.raises(InvariantBroken):
        driver.store.machine.apply(applied, driver.entries[-1])
    with pytest.raises(InvariantBroken):
        driver.store.machine.apply(applied + 1, b"\x91\x01")


def test_a_joined_group_is_an_encoded_group(driver: Driver) -> None:
    commands = [driver.transact(driver.put("cars", f"k{n}", {"n": n})) for n in range(20)]
    joined = join_group([encode_command(command) for command in commands])
    outcomes = driver.store.machine.apply(driver.store.machine.applied_index + 1, joined)
    assert [committed(outcome).versions for outcome in outcomes] == [(0,)] * 20
    assert encode_group(commands)[3:] == joined[5:]
