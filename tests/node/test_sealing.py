"""When a node seals: in time, early when many keys changed or somebody asks, and never while it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from consensus.errors import NotLeader
from node.applied import AnnouncingMachine
from node.sealing import Sealing
from node.stamps import Stamps
from stele.format.block import parse_header
from stele.verify.checkpoint import parse_checkpoint_text
from stele.verify.note import split_note
from storage.commands import Command, Seal, decode_group, encode_command, join_group
from storage.errors import NotSealed
from storage.limits import SEAL_SLICE_KEYS
from storage.outcomes import Committed, Outcome, Refused
from tests.node.served import ServedNode
from tests.storage.driver import LEDGER, Driver


class Leader:
    """A store whose commands are applied when the test says so, with a sealing beside it."""

    def __init__(self, driver: Driver, interval_s: float) -> None:
        self.driver = driver
        self.leads = True
        self.only_streams = False
        self.submitted: list[tuple[Seal, asyncio.Future[Outcome]]] = []
        self.machine = AnnouncingMachine(driver.store.machine)
        self.sealing = Sealing(
            driver.store, self.machine, self, Stamps(), leads=lambda: self.leads, interval_s=interval_s
        )

    def submit_ahead(self, command: Command) -> asyncio.Future[Outcome]:
        if not self.leads:
            raise NotLeader(None)
        assert isinstance(command, Seal)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.submitted.append((command, future))
        return future

    def write(self, *keys: str) -> None:
        self._apply(self.driver.transact(*(self.driver.put("cars", key, {}) for key in keys)))

    def commit(self) -> None:
        """The oldest seal under way is committed."""
        command, future = self.submitted.pop(0)
        outcome = self._apply(command)
        assert isinstance(outcome, Committed | Refused)
        future.set_result(outcome)

    def _apply(self, command: Command) -> object:
        payload = join_group([encode_command(command)])
        assert decode_group(payload) == [command]
        outcomes = self.machine.apply(self.machine.applied_index + 1, payload)
        assert isinstance(outcomes, list)
        return outcomes[0]


async def until(condition: Callable[[], object]) -> None:
    for _ in range(5_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise TimeoutError("the condition did not come true")


async def test_one_seal_comes_after_the_first_unsealed_block(driver: Driver) -> None:
    leader = Leader(driver, interval_s=0.05)
    began_s = asyncio.get_running_loop().time()
    leader.write("a")
    leader.write("b")
    assert leader.submitted == []
    await until(lambda: leader.submitted)
    assert asyncio.get_running_loop().time() - began_s >= 0.05
    leader.write("c")
    assert len(leader.submitted) == 1
    leader.commit()
    await asyncio.sleep(0)
    # Everything written before the commit is covered: nothing is left to seal.
    sealed = driver.store.sealed(LEDGER)
    assert sealed is not None
    assert sealed.size == driver.store.journal(LEDGER).size
    leader.write("d")
    await until(lambda: leader.submitted)
    command, _ = leader.submitted[0]
    assert (command.previous_size, command.previous_root) == (sealed.size, sealed.root)


async def test_many_changed_keys_are_sealed_at_once(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.limits.SEAL_KEYS_MAX", 10)
    monkeypatch.setattr("storage.limits.SEAL_KEYS_MIN", 10)
    leader = Leader(driver, interval_s=3600)
    leader.write(*(f"k{n}" for n in range(5)))
    assert leader.submitted == []
    leader.write(*(f"l{n}" for n in range(5)))
    assert len(leader.submitted) == 1


async def test_while_only_streams_write_seals_come_more_seldom(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.limits.SEAL_KEYS_MAX", 10)
    monkeypatch.setattr("storage.limits.SEAL_KEYS_MIN", 10)
    leader = Leader(driver, interval_s=3600)
    leader.only_streams = True
    for start in range(0, 30, 10):
        leader.write(*(f"k{start + n}" for n in range(10)))
        assert leader.submitted == []
    leader.write(*(f"l{n}" for n in range(10)))
    assert len(leader.submitted) == 1
    leader.commit()
    await asyncio.sleep(0)
    leader.write(*(f"m{n}" for n in range(10)))
    assert leader.submitted == []
    # Somebody waits for a write of his own: from now on seals are short again.
    leader.only_streams = False
    leader.write("n")
    assert len(leader.submitted) == 1


@pytest.mark.parametrize("leads", [True, False])
async def test_every_replica_works_ahead_of_the_seal(driver: Driver, leads: bool) -> None:
    leader = Leader(driver, interval_s=3600)
    leader.leads = leads
    state = driver.store.machine.ledgers[LEDGER]
    leader.write(*(f"k{n}" for n in range(SEAL_SLICE_KEYS)))
    assert (state.map.staged_rows, state.unsealed_keys) == (0, SEAL_SLICE_KEYS)
    await until(lambda: state.map.staged_rows)
    assert (state.map.staged_rows, len(state.unsealed)) == (SEAL_SLICE_KEYS, 0)
    leader.write(*(f"l{n}" for n in range(SEAL_SLICE_KEYS)))
    leader.sealing.stop()
    await asyncio.sleep(0.01)
    assert len(state.unsealed) == SEAL_SLICE_KEYS


async def test_who_asks_for_a_proof_waits_for_no_timer(driver: Driver) -> None:
    leader = Leader(driver, interval_s=3600)
    leader.write("a")
    first = asyncio.ensure_future(leader.sealing.covering(LEDGER, 3))
    await until(lambda: leader.submitted)
    # A block that comes while the seal is under way, and is asked for then, gets the next seal at once.
    leader.commit()
    leader.write("b")
    second = asyncio.ensure_future(leader.sealing.covering(LEDGER, 5))
    await until(lambda: leader.submitted)
    assert (await first).size == 5
    leader.commit()
    assert (await second).size == 7
    assert await leader.sealing.covering(LEDGER, 0) == await second


async def test_a_seal_that_fails_is_tried_again(driver: Driver) -> None:
    leader = Leader(driver, interval_s=0.02)
    leader.write("a")
    await until(lambda: leader.submitted)
    leader.submitted.pop()[1].set_exception(NotLeader(None))
    await until(lambda: leader.submitted)
    leader.commit()
    assert driver.store.sealed(LEDGER) is not None


async def test_only_a_leader_seals_and_a_new_one_seals_what_was_left(driver: Driver) -> None:
    leader = Leader(driver, interval_s=0.01)
    leader.leads = False
    leader.write("a")
    await asyncio.sleep(0.05)
    assert leader.submitted == []
    leader.leads = True
    leader.sealing.leadership(True)
    await until(lambda: leader.submitted)


async def test_nothing_is_proposed_while_the_node_stops(driver: Driver) -> None:
    leader = Leader(driver, interval_s=0.01)
    leader.write("a")
    leader.sealing.stop()
    leader.write("b")
    with pytest.raises(NotSealed):
        await leader.sealing.covering(LEDGER, 3)
    await asyncio.sleep(0.05)
    assert leader.submitted == []


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    made = Driver(tmp_path / "store")
    made.create("cars")
    # The blocks that made the ledger are no part of what the tests count.
    made.one(made.seal())
    yield made
    made.store.close()


def test_a_node_seals_by_itself_and_after_a_restart(tmp_path: Path) -> None:
    served = ServedNode(tmp_path, {"seal_interval_s": 0.05}).start()
    name = served.ledger("own")
    seq = served.ask("PUT", f"/v1/ledgers/{name}/tables/cars/documents/a", {}).json["seq"]
    store = served.node.services.store

    def is_sealed() -> bool:
        sealed = store.sealed(name)
        return sealed is not None and sealed.size > seq

    served.run(until(is_sealed))
    sealed = store.sealed(name)
    assert sealed is not None
    header = parse_header(store.journal(name).header(sealed.seal_seq))
    assert (header.kind, header.state_root) == ("seal", sealed.state_root.hex())
    served.stop()
    again = ServedNode(tmp_path, {"seal_interval_s": 3600.0}).start()
    assert again.node.services.store.sealed(name) == sealed
    answer = again.ask("GET", f"/v1/ledgers/{name}/tables/cars/documents/a?proof=true").json
    assert parse_checkpoint_text(split_note(answer["proof"]["checkpoint"])[0]).size == sealed.size
    again.stop()


def test_without_seals_there_are_no_proofs(tmp_path: Path) -> None:
    served = ServedNode(tmp_path, {"seal_interval_s": 0}).start()
    name = served.ledger("own")
    document = f"/v1/ledgers/{name}/tables/cars/documents/a"
    served.ask("PUT", document, {})
    assert served.ask("GET", f"{document}?proof=true").slug == "not-sealed"
    assert served.ask("GET", f"/v1/ledgers/{name}/checkpoint").slug == "not-sealed"
    head = msgspec.json.decode(served.ask("GET", f"/v1/ledgers/{name}/export").body.splitlines()[0])
    assert head["checkpoint"] is None
    served.stop()
