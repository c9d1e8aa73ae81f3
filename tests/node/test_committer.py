"""Group commit, with a proposer that the test holds in its hand."""

from __future__ import annotations

import asyncio

import pytest

from consensus.errors import NotLeader, OutcomeUnknown, TooManyProposals
from node import limits
from node.committer import CommandTooLarge, Committer, CommitUnknown, Overloaded, ShuttingDown
from storage.commands import DropLedger, Operation, Transact, decode_group
from storage.outcomes import LedgerChanged


class HeldProposer:
    """Keeps every proposal until the test answers it."""

    def __init__(self) -> None:
        self.is_leader = True
        self.leader_id: str | None = "n0"
        self.error: Exception | None = None
        self.proposed: list[tuple[list[str], asyncio.Future[object]]] = []

    def propose(self, payload: bytes) -> asyncio.Future[object]:
        if self.error is not None:
            raise self.error
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.proposed.append(([command.ledger for command in decode_group(payload)], future))
        return future

    def answer(self, index: int) -> None:
        commands, future = self.proposed[index]
        future.set_result([LedgerChanged(created=name.endswith("odd")) for name in commands])


def command(name: str) -> DropLedger:
    return DropLedger(name)


def large(size_bytes: int) -> Transact:
    return Transact("big", b"t" * 16, 0, "me", (Operation("put", "t", "k", b"x" * size_bytes, b"s" * 32),))


async def test_a_lone_command_goes_at_once_and_followers_gather() -> None:
    proposer = HeldProposer()
    committer = Committer(proposer, entries_in_flight_max=1)
    first = committer.submit(command("a"))
    await asyncio.sleep(0)
    others = [committer.submit(command(name)) for name in ("b", "c odd", "d")]
    await asyncio.sleep(0)
    assert [names for names, _ in proposer.proposed] == [["a"]]
    proposer.answer(0)
    await first
    assert [names for names, _ in proposer.proposed] == [["a"], ["b", "c odd", "d"]]
    proposer.answer(1)
    outcomes = await asyncio.gather(*others)
    assert [outcome.created for outcome in outcomes if isinstance(outcome, LedgerChanged)] == [
        False,
        True,
        False,
    ]
    await committer.close(1)


async def test_commands_of_one_turn_share_an_entry() -> None:
    proposer = HeldProposer()
    committer = Committer(proposer)
    futures = [committer.submit(command(f"l{n}")) for n in range(10)]
    await asyncio.sleep(0)
    assert [len(names) for names, _ in proposer.proposed] == [10]
    proposer.answer(0)
    await asyncio.gather(*futures)


async def test_small_commands_wait_for_the_entry_in_flight_and_many_bytes_do_not() -> None:
    proposer = HeldProposer()
    committer = Committer(proposer, entries_in_flight_max=2)
    for name in "abc":
        committer.submit(command(name))
        await asyncio.sleep(0)
    assert [names for names, _ in proposer.proposed] == [["a"]]
    committer.submit(large(limits.GROUP_AHEAD_SIZE_BYTES_MIN))
    await asyncio.sleep(0)
    assert [len(names) for names, _ in proposer.proposed] == [1, 3]
    committer.submit(command("d"))
    proposer.answer(0)
    await asyncio.sleep(0)
    assert len(proposer.proposed) == 2, "the second entry is still in flight"
    proposer.answer(1)
    await asyncio.sleep(0)
    assert [names for names, _ in proposer.proposed][2:] == [["d"]]


async def test_the_window_bounds_what_is_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GROUP_AHEAD_SIZE_BYTES_MIN", 1)
    proposer = HeldProposer()
    committer = Committer(proposer, entries_in_flight_max=2)
    for name in "abcd":
        committer.submit(command(name))
        await asyncio.sleep(0)
    assert [names for names, _ in proposer.proposed] == [["a"], ["b"]]
    proposer.answer(1)
    await asyncio.sleep(0)
    assert [names for names, _ in proposer.proposed] == [["a"], ["b"], ["c", "d"]]


async def test_groups_are_bounded_in_count_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GROUP_COMMANDS_MAX", 3)
    monkeypatch.setattr(limits, "GROUP_AHEAD_SIZE_BYTES_MIN", 1)
    proposer = HeldProposer()
    committer = Committer(proposer, entries_in_flight_max=100)
    for n in range(7):
        committer.submit(command(f"l{n}"))
    await asyncio.sleep(0)
    assert [len(names) for names, _ in proposer.proposed] == [3, 3, 1]
    share = limits.GROUP_SIZE_BYTES_MAX // 10
    for size_bytes in (6 * share, 3 * share, 3 * share, 11 * share, 10):
        committer.submit(large(size_bytes))
    await asyncio.sleep(0)
    assert [len(names) for names, _ in proposer.proposed[3:]] == [2, 1, 1, 1]


async def test_what_is_too_large_for_one_entry_goes_in_two() -> None:
    proposer = HeldProposer()
    committer = Committer(proposer, entries_in_flight_max=1)
    committer.submit(command("in flight"))
    await asyncio.sleep(0)
    half = limits.ENTRY_SIZE_BYTES_MAX // 2
    await committer.submit_patiently(large(half))
    committer.submit(large(half))
    for index in range(2):
        proposer.answer(index)
        await asyncio.sleep(0)
    assert [len(names) for names, _ in proposer.proposed] == [1, 1, 1]
    assert committer.pending_commands == 0


async def test_too_much_is_refused_and_streams_wait_for_room() -> None:
    proposer = HeldProposer()
    committer = Committer(proposer, entries_in_flight_max=1, pending_commands_max=4)
    committer.submit(command("in flight"))
    await asyncio.sleep(0)
    for n in range(4):
        committer.submit(command(f"l{n}"))
    with pytest.raises(Overloaded):
        committer.submit(command("too many"))
    patient = asyncio.create_task(committer.submit_patiently(command("patient")))
    await asyncio.sleep(0)
    assert not patient.done()
    proposer.answer(0)
    await patient
    assert committer.pending_commands == 1
    with pytest.raises(CommandTooLarge):
        committer.submit(large(limits.COMMAND_SIZE_BYTES_MAX))


async def test_the_bytes_that_wait_are_bounded() -> None:
    proposer = HeldProposer()
    committer = Committer(proposer, entries_in_flight_max=1, pending_size_bytes_max=1000)
    committer.submit(command("in flight"))
    await asyncio.sleep(0)
    committer.submit(large(800))
    with pytest.raises(Overloaded):
        committer.submit(large(800))


async def test_only_the_leader_takes_commands() -> None:
    proposer = HeldProposer()
    proposer.is_leader, proposer.leader_id = False, "n1"
    committer = Committer(proposer)
    with pytest.raises(NotLeader) as raised:
        committer.submit(command("a"))
    assert raised.value.leader_id == "n1"


async def test_leadership_lost_before_the_proposal_writes_nothing() -> None:
    proposer = HeldProposer()
    committer = Committer(proposer)
    futures = [committer.submit(command(name)) for name in "ab"]
    proposer.error = NotLeader("n1")
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(result) for result in results] == [NotLeader, NotLeader]
    assert committer.pending_commands == 0


async def test_leadership_lost_after_the_proposal_is_unknown() -> None:
    proposer = HeldProposer()
    committer = Committer(proposer)
    future = committer.submit(large(10))
    await asyncio.sleep(0)
    proposer.proposed[0][1].set_exception(OutcomeUnknown("lost"))
    with pytest.raises(CommitUnknown) as raised:
        await future
    assert raised.value.tx == b"t" * 16


async def test_a_replica_with_too_many_proposals_is_overload() -> None:
    proposer = HeldProposer()
    committer = Committer(proposer)
    proposer.error = TooManyProposals("full")
    with pytest.raises(Overloaded):
        await committer.submit(command("a"))


async def test_a_slow_commit_is_unknown_and_a_waiting_one_is_not_written() -> None:
    proposer = HeldProposer()
    committer = Committer(proposer, entries_in_flight_max=1, timeout_s=0.05)
    slow = committer.submit(command("a"))
    await asyncio.sleep(0)
    waiting = committer.submit(command("b"))
    results = await asyncio.gather(slow, waiting, return_exceptions=True)
    assert [type(result) for result in results] == [CommitUnknown, Overloaded]
    proposer.answer(0)
    await asyncio.sleep(0)
    assert len(proposer.proposed) == 1


async def test_settling_waits_for_everything_before_it() -> None:
    proposer = HeldProposer()
    committer = Committer(proposer, entries_in_flight_max=1)
    before = committer.submit(command("a"))
    await asyncio.sleep(0)
    settled = asyncio.create_task(committer.settle())
    await asyncio.sleep(0)
    proposer.answer(0)
    await before
    await asyncio.sleep(0)
    assert not settled.done()
    assert proposer.proposed[1][0] == []
    proposer.answer(1)
    await settled


async def with_three_lines_waiting() -> tuple[HeldProposer, Committer]:
    """Of a stream, behind the one entry that may be in flight."""
    proposer = HeldProposer()
    committer = Committer(proposer, entries_in_flight_max=1)
    committer.submit(command("in flight"))
    await asyncio.sleep(0)
    for n in range(3):
        await committer.submit_patiently(command(f"line {n}"))
    return proposer, committer


async def test_settling_waits_for_streams_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GROUP_COMMANDS_MAX", 1)
    proposer, committer = await with_three_lines_waiting()
    settled = asyncio.create_task(committer.settle())
    await asyncio.sleep(0)
    for index in range(4):
        assert not settled.done()
        proposer.answer(index)
        await asyncio.sleep(0)
    assert [names for names, _ in proposer.proposed] == [
        ["in flight"],
        ["line 0"],
        ["line 1"],
        ["line 2"],
        [],
    ]
    assert not settled.done()
    proposer.answer(4)
    await settled


async def test_streams_let_others_go_first_and_are_never_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GROUP_COMMANDS_MAX", 2)
    proposer, committer = await with_three_lines_waiting()
    for n in range(4):
        committer.submit(command(f"put {n}"))
    for index in range(3):
        proposer.answer(index)
        await asyncio.sleep(0)
    assert [names for names, _ in proposer.proposed][1:] == [
        ["put 0", "put 1", "line 0"],
        ["put 2", "put 3", "line 1"],
        ["line 2"],
    ]
    assert committer.pending_commands == 0


async def test_only_streams_write_until_somebody_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.limits.ONLY_STREAMS_AFTER_S", 0.05)
    loop = asyncio.get_running_loop()
    committer = Committer(HeldProposer())
    await committer.submit_patiently(command("streamed"))
    committer.submit_ahead(command("seal"))
    found = [committer.only_streams]
    began_s = loop.time()
    committer.submit(command("single"))
    while not found[-1] or len(found) == 1:
        found.append(committer.only_streams)
        assert loop.time() < began_s + 5
        await asyncio.sleep(0.001)
    assert found[0]
    assert not found[1]
    assert loop.time() - began_s >= 0.05


async def test_closing_waits_then_gives_up() -> None:
    proposer = HeldProposer()
    committer = Committer(proposer, entries_in_flight_max=1)
    done, stuck, pending = committer.submit(command("a")), committer.submit(command("b")), None
    await asyncio.sleep(0)
    proposer.answer(0)
    await done
    await stuck
    stuck = committer.submit(command("c"))
    await asyncio.sleep(0)
    pending = committer.submit(command("d"))
    await committer.close(0.05)
    with pytest.raises(CommitUnknown):
        await stuck
    with pytest.raises(ShuttingDown):
        await pending
    with pytest.raises(ShuttingDown):
        committer.submit(command("e"))


async def test_after_a_large_group_its_clients_are_given_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GATHER_S", 60.0)
    proposer = HeldProposer()
    committer = Committer(proposer)
    for n in range(10):
        committer.submit(command(f"a{n}"))
    await asyncio.sleep(0)
    proposer.answer(0)
    for n in range(8):
        committer.submit(command(f"b{n}"))
        await asyncio.sleep(0)
    assert [len(names) for names, _ in proposer.proposed] == [10], "nine are expected again"
    committer.submit(command("b8"))
    await asyncio.sleep(0)
    assert [len(names) for names, _ in proposer.proposed] == [10, 9]
    proposer.answer(1)
    await asyncio.sleep(0)
    committer.submit(command("c"))
    committer.submit_ahead(command("seal"))
    await asyncio.sleep(0)
    assert [names for names, _ in proposer.proposed][2:] == [["seal", "c"]], "what is ahead waits for nobody"
    proposer.answer(2)
    await asyncio.sleep(0)
    lone = committer.submit(command("d"))
    await asyncio.sleep(0)
    proposer.answer(3)
    await lone


async def test_clients_that_do_not_come_back_are_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GATHER_S", 0.001)
    proposer = HeldProposer()
    another = asyncio.Event()
    committer = Committer(proposer, on_group=lambda commands, size_bytes: another.set())
    for n in range(10):
        committer.submit(command(f"a{n}"))
    await asyncio.sleep(0)
    another.clear()
    late = committer.submit(command("late"))
    proposer.answer(0)
    await asyncio.sleep(0)
    assert len(proposer.proposed) == 1
    await asyncio.wait_for(another.wait(), 5)
    proposer.answer(1)
    await late
    committer.submit(command("alone"))
    await asyncio.sleep(0)
    assert [names for names, _ in proposer.proposed][1:] == [["late"], ["alone"]]
