"""Gathering cosignatures: lost, forged, early and contradicting ones, and a crash at the worst moment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node import limits
from node.checkpoints import NO_DEMAND
from node.notices import Cosigned, Wanted, encode_notice
from stele.format.cosignature import Cosigner
from stele.format.key_statement import retire_replica_text
from stele.format.note import sign_note
from stele.verify.checkpoint import parse_checkpoint_text
from stele.verify.note import VerifierKey, open_note
from storage.checkpoints import CheckpointRows
from storage.commands import CreateLedger, CreateTable, DropLedger, SetLedger
from storage.engine import Batch
from storage.errors import InvariantBroken
from tests.node.cosigners import LEDGER, CosigningNode, World, ed25519_of

ALL = ["demo/n0", "demo/n1", "demo/n2"]


@pytest.fixture
def unnamed(tmp_path: Path) -> Iterator[World]:
    """Nobody's key is in the journal."""
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def world(unnamed: World) -> World:
    unnamed.record_keys()
    return unnamed


def test_every_replica_gathers_every_cosignature(world: World) -> None:
    size = world.write()
    world.turn()
    for node in world.nodes.values():
        assert node.names() == ALL
        sealed = node.store.sealed(LEDGER)
        assert sealed is not None
        keys = [VerifierKey.parse(node.checkpoints.verifier_key(LEDGER))]
        keys += [key for each in node.keys.history().replicas.values() for key in each]
        opened = open_note(node.checkpoints.of_seal(LEDGER, sealed), keys)
        assert opened.verified_names == ("demo/sample", *ALL)
        assert parse_checkpoint_text(opened.text).size == size
    before = world["n0"].gathered()
    world.pass_time(60)
    world.turn()
    assert world["n0"].gathered() == before, "nothing is signed twice"


def test_older_checkpoints_and_their_cosignatures_stay(world: World) -> None:
    sizes = []
    for _ in range(3):
        sizes.append(world.write())
        world.turn()
    listed = world["n1"].checkpoints.listed(LEDGER, 0, 10)
    assert [size for size, _ in listed] == sizes
    assert all(note.count("\u2014 demo/n") == 3 for _, note in listed)
    assert [size for size, _ in world["n1"].checkpoints.listed(LEDGER, sizes[1], 1)] == [sizes[1]]


def test_what_is_lost_is_asked_for_again(world: World) -> None:
    size = world.write()
    world.turn(lost=lambda source, target, notice: isinstance(notice, Cosigned))
    assert [world[each].names() for each in world.nodes] == [[each] for each in ALL]
    world.write()
    world.turn()
    world.pass_time(limits.ASK_AGAIN_S_MIN)
    world.turn()
    assert all(node.names(size) == ALL for node in world.nodes.values())


def test_a_replica_that_was_away_gets_all_and_gives_its_own(world: World) -> None:
    size = world.write()
    world.turn(lost=lambda source, target, notice: "n2" in (source, target))
    assert world["n0"].names() == ALL[:2]
    for _ in range(12):
        world.pass_time(limits.ASK_AGAIN_S_MAX)
        world.turn(lost=lambda source, target, notice: "n2" in (source, target))
    world.pass_time(limits.ASK_AGAIN_S_MAX)
    world.turn()
    assert all(node.names(size) == ALL for node in world.nodes.values())


def test_nobody_is_asked_for_ever_about_what_is_past(world: World) -> None:
    asked: list[int] = []

    def lost(source: str, target: str, notice: object) -> bool:
        if isinstance(notice, Wanted):
            asked.append(notice.size)
        return True

    past = world.write()
    world.turn(lost)
    newest = world.write()
    for _ in range(40):
        world.pass_time(limits.ASK_AGAIN_S_MAX)
        world.turn(lost)
    assert asked.count(past) <= 6 * limits.ASK_AGAIN_TIMES_MAX
    assert asked.count(newest) >= 6 * 30


def test_cosignatures_that_come_early_are_kept_for_later(world: World) -> None:
    size = world.write(only=("n0",))
    world["n0"].cosigning.round()
    for _, body in world["n0"].outbox:
        world["n1"].cosigning.take("n0", body)
    world["n1"].cosigning.round()
    assert world["n1"].store.sealed(LEDGER) is None
    # n1 catches up: the entries of n0, which nobody sends again a cosignature for.
    catch_up(world["n0"], world["n1"])
    world["n1"].cosigning.round()
    assert world["n1"].sealed_size == size
    assert world["n1"].names() == ALL[:2]


def catch_up(source: CosigningNode, target: CosigningNode) -> None:
    """Applies at `target` the entries that only `source` has."""
    for payload in source.entries[len(target.entries) :]:
        target.apply(payload)


def test_forged_cosignatures_are_not_kept(world: World) -> None:
    size = world.write()
    node = world["n0"]
    tree = node.checkpoints.tree(node.info, size)
    good = Cosigner("demo/n1", ed25519_of(world["n1"])).cosign(tree.origin, size, tree.root, 1)
    stranger = Cosigner("demo/n1", Ed25519PrivateKey.generate())
    another = world.write()
    forged = [
        (tree.root, stranger.cosign(tree.origin, size, tree.root, 1)),  # Another key under its name.
        (tree.root, good.replace("A", "B", 1)),
        (bytes(32), good),  # The right line under another root: it does not hold for that.
        (tree.root, Cosigner("demo/n9", ed25519_of(world["n1"])).cosign(tree.origin, size, tree.root, 1)),
        (tree.root, good.replace("n1", "n2")),
        (tree.root, good + good),
        (tree.root, "\u2014 demo/n1 AAAA\n"),
        (tree.root, ""),
        (tree.root, "\n\n" + good),
    ]
    for root, line in forged:
        node.cosigning.take("n1", encode_notice(Cosigned(node.info.id, size, root, line)))
    for body in (b"", b"\x00", b"\xff" * 100, encode_notice(Cosigned(bytes(16), size, tree.root, good))):
        node.cosigning.take("n1", body)
    # True, but of another size than it says, and of a size that no seal ends.
    node.cosigning.take("n1", encode_notice(Cosigned(node.info.id, another, tree.root, good)))
    unsealed = node.checkpoints.tree(node.info, size - 1)
    line = Cosigner("demo/n1", ed25519_of(world["n1"])).cosign(tree.origin, size - 1, unsealed.root, 1)
    node.cosigning.take("n1", encode_notice(Cosigned(node.info.id, size - 1, unsealed.root, line)))
    for _ in range(3):
        node.cosigning.round()
    assert node.gathered(size) == []
    assert node.gathered(size - 1) == []
    assert node.names(another) == ["demo/n0"]
    assert node.cosigning.contradictions.alarms() == []
    # And the good one is kept: the test can tell.
    node.cosigning.take("n1", encode_notice(Cosigned(node.info.id, size, tree.root, good)))
    node.cosigning.round()
    assert node.names(size) == ["demo/n1"]


def test_nobody_cosigns_before_the_journal_names_his_key(unnamed: World) -> None:
    unnamed.write()
    unnamed.turn()
    assert unnamed["n0"].gathered() == []
    unnamed.record_keys()
    unnamed.turn()
    assert unnamed["n0"].names() == ALL, "then also what is newest"


def contradict(world: World, signer: str, target: str, size: int) -> None:
    """`signer` has cosigned another history, and `target` gets to see it."""
    node = world[target]
    origin = node.checkpoints.origin(node.info)
    line = Cosigner(f"demo/{signer}", ed25519_of(world[signer])).cosign(origin, size, b"x" * 32, 1)
    node.cosigning.take(signer, encode_notice(Cosigned(node.info.id, size, b"x" * 32, line)))


def test_a_replica_that_shows_another_history_raises_an_alarm_that_stays(world: World) -> None:
    size = world.write()
    node = world["n0"]
    world.turn(lost=lambda source, target, notice: True)
    contradict(world, "n2", "n0", size)
    node.cosigning.round()
    contradictions = node.cosigning.contradictions
    assert contradictions.alarms() == [f"demo/n2 has cosigned another root of ledger 'sample' at size {size}"]
    assert contradictions.count(node.info.id) == 1
    # Alone against one, it cannot tell who is in the right, and says that it is not ready.
    assert "no majority" in (contradictions.outvoted() or "")
    node.close()
    node.open()
    contradictions = node.cosigning.contradictions
    assert "no majority" in (contradictions.outvoted() or "")
    (evidence,) = node.store.checkpoints.contradictions(node.info.number, 10)
    assert (evidence.name, evidence.root) == ("demo/n2", b"x" * 32)
    # A majority, without the one that contradicts, settles it for this node; the alarm stays.
    world.write()
    world.turn()
    assert contradictions.outvoted() is None
    assert len(contradictions.alarms()) == 1
    # Until that key no longer counts. The evidence stays even then.
    keys = world["n2"].own.keys.verifier_keys
    world.state(sign_note(retire_replica_text("n2", keys), world.log))
    assert contradictions.alarms() == []
    assert contradictions.count(node.info.id) == 1


def test_a_contradiction_at_a_size_without_a_seal_counts_too(world: World) -> None:
    size = world.write()
    world.turn()
    contradict(world, "n2", "n0", size - 1)
    world["n0"].cosigning.round()
    assert len(world["n0"].cosigning.contradictions.alarms()) == 1
    # A majority has cosigned a later tree, which commits to this one.
    assert world["n0"].cosigning.contradictions.outvoted() is None


def test_a_replica_whose_own_key_signed_something_else_signs_no_more(world: World) -> None:
    size = world.write()
    world.turn()
    contradict(world, "n0", "n0", size - 1)
    world["n0"].cosigning.round()
    assert "this node's key" in (world["n0"].cosigning.contradictions.outvoted() or "")
    world.write()
    world.turn()
    assert world["n1"].names() == ALL[1:]


class PowerCut(Exception):
    pass


def test_a_crash_between_persisting_and_signing_never_makes_two_roots(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = world.write()
    node = world["n0"]

    def cut(*arguments: object) -> str:
        raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(Cosigner, "cosign", cut)
        with pytest.raises(PowerCut):
            node.cosigning.round()
    note = node.store.checkpoints.note(node.info.number, size)
    assert note is not None, "what is to be signed is on disk before it is signed"
    node.close()
    node.open()
    node.cosigning.round()
    assert node.names() == ["demo/n0"]
    assert node.store.checkpoints.note(node.info.number, size) == note

    # The same crash, and then the journal on the disk is another one: nothing is signed, the node stops.
    size = world.write()
    with monkeypatch.context() as patch:
        patch.setattr(Cosigner, "cosign", cut)
        with pytest.raises(PowerCut):
            node.cosigning.round()
    node.close()
    node.open()
    node.outbox.clear()
    tree = node.checkpoints.tree(node.info, size)
    monkeypatch.setattr(node.checkpoints, "tree", lambda info, size: tree._replace(root=b"y" * 32))
    with pytest.raises(InvariantBroken, match="signed here"):
        node.cosigning.round()
    assert node.gathered() == []
    assert node.outbox == []


def test_the_checkpoint_is_synced_before_anything_leaves(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = world["n0"]
    events: list[str] = []
    keep, cosign = CheckpointRows.keep, Cosigner.cosign

    def kept(rows: CheckpointRows, found: list[tuple[int, int, str]]) -> None:
        events.append("synced")
        keep(rows, found)

    def cosigned(cosigner: Cosigner, origin: str, size: int, root: bytes, timestamp_s: int) -> str:
        events.append("signed")
        return cosign(cosigner, origin, size, root, timestamp_s)

    monkeypatch.setattr(CheckpointRows, "keep", kept)
    monkeypatch.setattr(Cosigner, "cosign", cosigned)
    world.write()
    node.cosigning.round()
    assert events[:2] == ["synced", "signed"]


def test_one_that_talks_too_much_is_cut_short_and_silences_nobody(world: World) -> None:
    size = world.write()
    node = world["n0"]
    tree = node.checkpoints.tree(node.info, size)
    nonsense = encode_notice(Cosigned(node.info.id, size, tree.root, "\u2014 demo/n1 AAAA\n"))
    for _ in range(10 * limits.NOTICES_WAITING_MAX):
        node.cosigning.take("n1", nonsense)
    assert node.cosigning.notices_dropped == 9 * limits.NOTICES_WAITING_MAX
    world["n2"].cosigning.round()
    for _, body in world["n2"].outbox:
        node.cosigning.take("n2", body)
    node.cosigning.round()
    assert node.names() == ["demo/n0", "demo/n2"]
    assert not node.cosigning.idle


def test_a_ledger_that_takes_the_name_of_a_deleted_one_is_another_log(world: World) -> None:
    world.write()
    world.turn()
    node = world["n0"]
    assert node.checkpoints.origin(node.info) == "demo/sample"
    old_key = node.checkpoints.verifier_key(LEDGER)
    world.apply(SetLedger(LEDGER, False))
    world.apply(DropLedger(LEDGER))
    world.apply(CreateLedger(LEDGER, b"i" * 16, b"t" * 16, 1, "tester", True))
    world.apply(CreateTable(LEDGER, "cars", b"u" * 16, 1, "tester", bytes(32)))
    world.write()
    world.turn()
    for each in world.nodes.values():
        assert each.checkpoints.origin(each.info) == f"demo/sample.{(b'i' * 16).hex()}"
        assert each.checkpoints.verifier_key(LEDGER) != old_key
        assert each.names() == ALL


async def test_a_checkpoint_that_is_not_on_disk_yet_is_not_shown(world: World) -> None:
    world.write()
    node = world["n0"]
    node.cosigning.round()
    size = world.write()
    on_disk = asyncio.Event()

    async def sync() -> None:
        await on_disk.wait()

    signing = asyncio.ensure_future(node.checkpoints.sign_beside(node.cosigning.newly_sealed(), sync))
    await asyncio.sleep(0)
    assert node.store.checkpoints.note(node.info.number, size) is not None
    assert size not in dict(node.checkpoints.listed(LEDGER, 0, 10))
    assert node.checkpoints.cosigned(LEDGER, NO_DEMAND, size) is None
    on_disk.set()
    await signing
    assert size in dict(node.checkpoints.listed(LEDGER, 0, 10))
    assert node.checkpoints.cosigned(LEDGER, NO_DEMAND, size) is not None


async def test_who_asks_for_a_checkpoint_that_is_on_its_way_gets_it_from_the_disk(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = world.write()
    node = world["n0"]
    sealed = node.store.sealed(LEDGER)
    assert sealed is not None
    on_disk = asyncio.Event()

    async def sync() -> None:
        await on_disk.wait()

    signing = asyncio.ensure_future(node.checkpoints.sign_beside(node.cosigning.newly_sealed(), sync))
    await asyncio.sleep(0)
    synced: list[bool] = []
    write = node.store.engine.write

    def seen(batch: Batch, /, *, sync: bool = False) -> None:
        synced.append(sync)
        write(batch, sync=sync)

    monkeypatch.setattr(node.store.engine, "write", seen)
    note = node.checkpoints.of_seal(LEDGER, sealed)
    assert synced == [True]
    on_disk.set()
    await signing
    assert note == node.store.checkpoints.note(node.info.number, size)
