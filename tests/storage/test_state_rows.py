"""Every way to a seal stores the same bytes: replicas are compared by them, and fsck recomputes them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stele.format.state_map import BUCKET_HEAD_SIZE_BYTES, ROW_SIZE_BYTES, state_root
from stele.verify.state_map import StateReplay
from storage import limits
from storage import seal as sealing
from tests.storage.near import ID, LEDGER, Replica, commands_of, near

_writes = st.builds(
    lambda seed, count: random.Random(seed).sample(range(400), count), st.integers(0), st.integers(1, 90)
)
_steps = st.lists(st.one_of(_writes, _writes, st.just([])), max_size=14)
_way = st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.booleans()), min_size=1, max_size=4)


@settings(deadline=None, max_examples=40)
@given(_steps, _way, st.sampled_from([1, 30, limits.UNSEALED_KEYS_KEPT_MAX]), st.sampled_from([0, 8, 1_000]))
def test_every_way_to_a_seal_stores_the_same_bytes(
    steps: list[list[int]], way: list[tuple[int, bool, bool]], unsealed_max: int, kept_max: int
) -> None:
    """One command an entry, or several with their seals; ahead of the seal or in it; after a restart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealing, "_packed", near)
        leader, other = Replica(), Replica()
        commands = []
        for command in commands_of(leader, steps):
            commands.append(command)
            leader.apply(command)
        patch.setattr(limits, "UNSEALED_KEYS_KEPT_MAX", unsealed_max)
        patch.setattr(limits, "STATE_BUCKETS_KEPT_MAX", kept_max)
        patch.setattr(limits, "STATE_WRITE_BACK_MIN", 1)
        at = turn = 0
        while at < len(commands):
            count, ahead, restarts = way[turn % len(way)]
            other.apply(*commands[at : at + count])
            at, turn = at + count, turn + 1
            if restarts:
                other.restart()
            if ahead:
                other.machine.work_ahead([LEDGER], keys_min=1)
        compare(leader, other)


def compare(leader: Replica, other: Replica) -> None:
    root, stored, rows = leader.state.map.root, leader.buckets(), leader.rows()
    assert other.state.map.root == root
    assert other.buckets() == stored
    assert state_root(rows) == root
    replay = StateReplay(ID.hex())
    replay.restore(b"".join(rows))
    assert replay.root() == root
    packed = b"".join(bucket[BUCKET_HEAD_SIZE_BYTES:] for _, bucket in sorted(stored.items()))
    assert len(packed) == len(rows) * ROW_SIZE_BYTES
    assert packed == b"".join(sorted(rows))
    for replica in (leader, other):
        replica.scrub()
        replica.restart()
        assert replica.state.map.root == root
