"""A damaged bucket of the state map: the scrub names it, no proof of it is served, no store opens with it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import pytest

from stele.format.state_map import BUCKET_HEAD_SIZE_BYTES, ROW_SIZE_BYTES, unpack_rows
from stele.verify.state_map import StateRow, verify_state
from storage import keys
from storage import seal as sealing
from storage.errors import InvariantBroken
from tests.storage.near import LEDGER, Replica, as_json, commands_of, near

HEAD = BUCKET_HEAD_SIZE_BYTES
KEYS = 200
LAST = 0xFFFFF
FULL_SIZE_BYTES = HEAD + 12 * ROW_SIZE_BYTES

Buckets = dict[int, bytes]


@pytest.fixture
def replica(monkeypatch: pytest.MonkeyPatch) -> Replica:
    monkeypatch.setattr(sealing, "_packed", near)
    made = Replica()
    for command in commands_of(made, [list(range(KEYS))]):
        made.apply(command)
    buckets = made.buckets()
    # What the damages below rest on.
    assert all(len(buckets[number]) > FULL_SIZE_BYTES for number in (0, 1, LAST))
    assert not {2, 3, LAST - 1, LAST - 2, LAST - 3} & set(buckets)
    return made


def wide(buckets: Buckets) -> int:
    """A bucket above depth 18."""
    return next(number for number, bucket in buckets.items() if bucket[1] < 9)


def another_level(buckets: Buckets) -> Buckets:
    number = wide(buckets)
    return {number: bytes([2, buckets[number][1] + 1]) + buckets[number][HEAD:]}


def another_level_of_the_fullest(buckets: Buckets) -> Buckets:
    return {LAST: b"\2\x09" + buckets[LAST][HEAD:]}


def missing(buckets: Buckets) -> Buckets:
    return {wide(buckets): b""}


def the_last_missing(buckets: Buckets) -> Buckets:
    return {LAST: b""}


def all_missing(buckets: Buckets) -> Buckets:
    return dict.fromkeys(buckets, b"")


def moved(buckets: Buckets) -> Buckets:
    number = wide(buckets)
    return {number: b"", number + 1: buckets[number]}


def not_split(buckets: Buckets) -> Buckets:
    """Its hash would be that of the inner node."""
    return {0: b"\2\x09" + buckets[0][HEAD:] + buckets[1][HEAD:], 1: b""}


def not_split_nor_the_first_child(buckets: Buckets) -> Buckets:
    return {LAST - 3: b"\2\x09" + buckets[LAST][HEAD:], LAST: b""}


def left_where_a_split_took_its_rows(buckets: Buckets) -> Buckets:
    """The node at depth 18 is an inner one, whose first child has no rows. The root comes out right."""
    return {LAST - 3: b"\2\x09" + buckets[LAST][HEAD : HEAD + 5 * ROW_SIZE_BYTES]}


def within_another(buckets: Buckets) -> Buckets:
    number = wide(buckets)
    return {number + 1: buckets[number][:1] + b"\x0a" + buckets[number][HEAD:]}


def where_none_is(buckets: Buckets) -> Buckets:
    return {2: b"\2\x0a" + buckets[1][HEAD : HEAD + ROW_SIZE_BYTES]}


def past_the_end(buckets: Buckets) -> Buckets:
    return {LAST + 1: buckets[LAST]}


def another_order(buckets: Buckets) -> Buckets:
    """The rows of one bucket below depth 20 stand before those of another; within each they are in order."""
    rows = buckets[0][HEAD:]
    return {0: buckets[0][:HEAD] + rows[-ROW_SIZE_BYTES:] + rows[:-ROW_SIZE_BYTES]}


def a_row_less(buckets: Buckets) -> Buckets:
    return {0: buckets[0][:-ROW_SIZE_BYTES]}


def a_row_twice(buckets: Buckets) -> Buckets:
    return {1: buckets[1] + buckets[1][-ROW_SIZE_BYTES:]}


def many_times_one_row(buckets: Buckets) -> Buckets:
    return {1: buckets[1][:HEAD] + buckets[1][HEAD : HEAD + ROW_SIZE_BYTES] * 20}


def half_a_row_more(buckets: Buckets) -> Buckets:
    return {1: buckets[1] + bytes(40)}


def without_rows(buckets: Buckets) -> Buckets:
    return {wide(buckets): b"\2\1"}


def one_byte(buckets: Buckets) -> Buckets:
    return {2: b"\2"}


DAMAGES = [
    another_level,
    another_level_of_the_fullest,
    missing,
    the_last_missing,
    all_missing,
    moved,
    not_split,
    not_split_nor_the_first_child,
    left_where_a_split_took_its_rows,
    within_another,
    where_none_is,
    past_the_end,
    another_order,
    a_row_less,
    a_row_twice,
    many_times_one_row,
    half_a_row_more,
    without_rows,
    one_byte,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_bucket_is_named_and_never_served(
    replica: Replica, damage: Callable[[Buckets], Buckets]
) -> None:
    replica.scrub()
    served(replica)
    batch = replica.disk.batch()
    for number, bucket in damage(replica.buckets()).items():
        key = keys.state_bucket(replica.state.number, number)
        if bucket:
            batch.put(key, bucket)
        else:
            batch.delete(key)
    replica.disk.write(batch)
    with pytest.raises(InvariantBroken, match=r"state bucket \d+"):
        replica.scrub()
    served(replica)
    with pytest.raises(InvariantBroken, match="fsck names"):
        replica.restart()


def served(replica: Replica) -> None:
    """Whatever proof comes is a true one."""
    root = replica.state.map.root
    for (row,) in map(unpack_rows, replica.rows()):
        absent = row.key_hash[:31] + bytes([row.key_hash[31] ^ 1])
        for key_hash, expected in ((row.key_hash, StateRow(*row[1:])), (absent, None)):
            try:
                proof = replica.state.map.proof(key_hash)
            except InvariantBroken:
                continue
            assert verify_state(as_json(proof), key_hash, root) == expected


@pytest.mark.parametrize("changed", [b"", b"\2\x01" + bytes(ROW_SIZE_BYTES)])
def test_what_is_sealed_next_is_not_made_of_a_damaged_bucket(replica: Replica, changed: bytes) -> None:
    """A bucket that is gone, or is another's, is no bucket without rows."""
    number = replica.state.number
    batch = replica.disk.batch()
    for first in replica.buckets():
        batch.delete(keys.state_bucket(number, first))
        if changed:
            batch.put(keys.state_bucket(number, first), changed)
    replica.disk.write(batch)
    with pytest.raises(InvariantBroken, match=r"state bucket \d+ is not the one"):
        replica.state.map.stage(replica.rows())


def test_a_ledger_without_a_seal_has_no_buckets() -> None:
    replica = Replica()
    for command in islice(commands_of(replica, []), 2):
        replica.apply(command)
    replica.restart()
    batch = replica.disk.batch()
    batch.put(keys.state_bucket(replica.machine.ledgers[LEDGER].number, 0), b"\2\0" + bytes(ROW_SIZE_BYTES))
    replica.disk.write(batch)
    with pytest.raises(InvariantBroken, match="nothing is sealed"):
        replica.restart()
