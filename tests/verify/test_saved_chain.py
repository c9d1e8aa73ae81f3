"""A replay that was kept goes on as if it had never ended, and is held against the journal in what counts."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from stele.verify.chain import Chain
from stele.verify.errors import Malformed, Mismatch, VerificationError
from stele.verify.saved_chain import mark, restored, saved
from tests.verify.journal import LEDGER, Journal, Write, sample, to_line
from tests.verify.test_verify_seals import sealed

ID = LEDGER.hex()


def replayed(journal: Journal) -> tuple[Chain, list[bytes]]:
    """The chain after the journal's last block, a seal, and what was kept of it."""
    chain = Chain(ID, journal.name)
    lines = [to_line(block) for block in journal.blocks]
    for line in lines[:-1]:
        chain.append(line)
    at = mark(chain, 4711, bytes(32))
    chain.append(lines[-1])
    return chain, list(saved(chain, at))


def test_it_goes_on_as_if_it_had_never_ended() -> None:
    journal = sealed()
    chain, frames = replayed(journal)
    again, at = restored(frames, ID, journal.name)
    assert (at.size, at.offset_bytes) == (journal.size - 1, 4711)
    again.append(to_line(journal.blocks[-1]))
    assert again.tree.root() == chain.tree.root() == journal.root()
    assert (again.revisions, again.seals, again.next_seq) == (chain.revisions, chain.seals, chain.next_seq)
    assert again.history is not None
    assert chain.history is not None
    assert sorted(again.history.newest()) == sorted(chain.history.newest())

    people = next(table for table, _ in journal.newest if table.startswith("people@"))
    cattle = journal.create_table("cattle")
    journal.append([Write(people, "person-9", {"n": 2}), Write(cattle, "cow", {})])
    journal.seal()
    for served in journal.blocks[-3:]:
        for each in (chain, again):
            each.append(to_line(served))
    assert again.tree.root() == journal.root()
    assert again.state_root == chain.state_root


def test_a_replay_is_kept_right_after_its_seal_only() -> None:
    journal = sealed()
    chain = Chain(ID, journal.name)
    at = mark(chain, 0, bytes(32))
    for block in journal.blocks:
        chain.append(to_line(block))
    with pytest.raises(Malformed):
        list(saved(chain, at))


@pytest.mark.parametrize("frame", range(6))
def test_a_changed_or_missing_frame_is_found(frame: int) -> None:
    journal = sealed()
    _, frames = replayed(journal)
    assert len(frames) == 6
    changed = bytearray(frames[frame])
    changed[-1] ^= 1
    for wrong in ([*frames[:frame], bytes(changed), *frames[frame + 1 :]], frames[:frame]):
        with pytest.raises(VerificationError):
            restored(wrong, ID, journal.name)
    with pytest.raises(Mismatch):
        restored(frames, "00" * 16, journal.name)


def forged(frames: list[bytes], number: int, change: Any) -> list[bytes]:
    """With a digest that fits: whoever can write to the file can compute one."""
    content = msgspec.msgpack.decode(frames[number])
    change(content)
    made = [*frames[:number], msgspec.msgpack.encode(content), *frames[number + 1 : -1]]
    return [*made, hashlib.sha256(b"".join(made)).digest()]


def test_a_forged_version_does_not_fit_the_map() -> None:
    journal = sealed()
    _, frames = replayed(journal)

    def other_version(keys: list[list[Any]]) -> None:
        keys[0][2] += 1

    for change in (other_version, lambda keys: keys.pop(), lambda keys: keys.append(["cars@1", "x", 0, 1])):
        with pytest.raises(Mismatch):
            restored(forged(frames, 1, change), ID, journal.name)


def test_a_forged_map_does_not_fit_the_seal() -> None:
    """Map and versions agree with each other, and not with what was signed."""
    journal = sealed()
    _, frames = replayed(journal)

    def other_leaf(buckets: list[Any]) -> None:
        buckets[0] = buckets[0][:-1] + bytes([buckets[0][-1] ^ 1])

    again, _ = restored(forged(frames, 3, other_leaf), ID, journal.name)
    with pytest.raises(Mismatch, match="state root"):
        again.append(to_line(journal.blocks[-1]))


def test_a_forged_tree_does_not_lead_to_the_signed_root() -> None:
    journal = sealed()
    _, frames = replayed(journal)

    def other_subtree(head: list[Any]) -> None:
        first, *rest = head[3]["subtrees"]
        head[3]["subtrees"] = [bytes([first[0] ^ 1]) + first[1:], *rest]

    again, _ = restored(forged(frames, 0, other_subtree), ID, journal.name)
    again.append(to_line(journal.blocks[-1]))
    assert again.tree.root() != journal.root()

    def too_few(head: list[Any]) -> None:
        head[3]["subtrees"] = head[3]["subtrees"][1:]

    with pytest.raises(Malformed):
        restored(forged(frames, 0, too_few), ID, journal.name)


def test_a_journal_without_seals_is_not_kept() -> None:
    journal = sample()
    chain = Chain(ID, journal.name, history=False)
    at = mark(chain, 0, bytes(32))
    chain.append(to_line(journal.blocks[0]))
    with pytest.raises(Malformed):
        list(saved(chain, at))
