"""The client against a real node: every call, and what it promises."""

from __future__ import annotations

import itertools
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from stele.client import (
    BlockingClient,
    BulkLine,
    Client,
    ConditionFailed,
    Conflict,
    Delete,
    DeletionProtected,
    Gone,
    IdempotencyKeyReused,
    Invalid,
    MemberInfo,
    NotFound,
    Put,
    SteleError,
    TrustPolicy,
    Unavailable,
    Unchanged,
    VersionIs,
    VersionMismatch,
)
from stele.verify import VerifierKey, verify_export
from stele.verify.merkle import verify_inclusion
from tests.client.conftest import url_of
from tests.cluster.cluster import Cluster


@pytest.fixture
async def client(single: Cluster) -> AsyncIterator[Client]:
    async with Client(url_of(single), trust=TrustPolicy(single.verifier_key)) as opened:
        yield opened


async def test_ledgers_and_tables(client: Client, ledger: str) -> None:
    created = await client.create_ledger("another")
    assert (await client.create_ledger("another")).id == created.id
    assert {"another", ledger} <= {info.name for info in await client.ledgers()}
    with pytest.raises(DeletionProtected):
        await client.delete_ledger("another")
    await client.create_ledger("another", deletion_protection=False)
    await client.delete_ledger("another")
    with pytest.raises(NotFound):
        await client.ledger("another").info()

    here = client.ledger(ledger)
    assert (await here.create_table("bikes")).state == "active"
    assert (await here.drop_table("bikes")).state == "dropped"
    assert {table.name: table.state for table in await here.tables()}["bikes"] == "dropped"
    assert (await here.table("cars")).id.startswith("cars@")
    assert (await client.cluster()).leader == "n0"
    assert await client.transfer_leadership("n0") == "n0"
    with pytest.raises(Invalid):
        await client.transfer_leadership("n9")
    with pytest.raises(Unavailable, match="no other voter"):
        await client.transfer_leadership()


async def test_members(client: Client) -> None:
    added = await client.add_member("n9", zone="z", raft="127.0.0.1:1", http="127.0.0.1:2")
    assert added == MemberInfo(id="n9", zone="z", raft="127.0.0.1:1", http="http://127.0.0.1:2", voter=False)
    assert await client.add_member("n9", zone="z", raft="127.0.0.1:1", http="127.0.0.1:2") == added
    with pytest.raises(Conflict, match="n9"):
        await client.promote_member("n9")
    status = await client.cluster(consistency="strong")
    learner = status.member("n9")
    assert learner is not None
    assert (learner.role, learner.connected, status.quorum) == ("learner", False, 1)
    assert not status.zones["zone-a"].can_lose
    assert {"member-down", "zone-majority"} <= {warning.kind for warning in status.warnings}
    with pytest.raises(Conflict):
        await client.remove_member("n0")
    await client.remove_member("n9")
    with pytest.raises(NotFound):
        await client.remove_member("n9")
    with pytest.raises(Conflict):
        await client.add_member("n9", zone="z", raft="127.0.0.1:1", http="127.0.0.1:2")
    assert [member.id for member in (await client.cluster()).members] == ["n0"]


async def test_a_document_from_first_to_last_revision(client: Client, ledger: str) -> None:
    here = client.ledger(ledger)
    key = "Ä car/".replace("/", "#") + "%2F?&"
    first = await here.put("cars", key, {"owner": "Ada", "price": 1.5, "none": None}, if_absent=True)
    with pytest.raises(VersionMismatch) as refused:
        await here.put("cars", key, {}, if_absent=True)
    assert refused.value.problem is not None
    assert refused.value.problem.current_version == 0
    second = await here.put("cars", key, {"owner": "Alan"}, if_version=0)
    assert (second.version, second.seq) == (1, first.seq + 1)

    assert (await here.get("cars", key)).data == {"owner": "Alan"}
    for old in (
        await here.get("cars", key, version=0),
        await here.get("cars", key, as_of_seq=first.seq),
        await here.get("cars", key, as_of=first.at),
        await here.get("cars", key, as_of=first.at.isoformat()),
    ):
        assert (old.data["owner"], old.seq, old.at) == ("Ada", first.seq, first.at)
        assert old.proof is not None
    with pytest.raises(NotFound):
        await here.get("cars", key, as_of=first.at - timedelta(seconds=1))
    assert (await here.get("cars", key, consistency="snapshot", min_seq=second.seq)).version == 1

    deleted = await here.delete("cars", key, if_version=1)
    with pytest.raises(Gone):
        await here.get("cars", key)
    history = [revision async for revision in here.history("cars", key)]
    assert [(revision.version, revision.op) for revision in history] == [
        (2, "delete"),
        (1, "put"),
        (0, "put"),
    ]
    assert history[0].tx == deleted.tx
    assert history[0].data is None
    assert [revision.version async for revision in here.history("cars", key, limit=2)] == [2, 1]
    assert datetime.now(UTC) - deleted.at < timedelta(minutes=1)


async def test_a_repeated_idempotency_key_writes_once(client: Client, ledger: str) -> None:
    here = client.ledger(ledger)
    first = await here.put("cars", "a", {"n": 1}, idempotency_key="k-1")
    assert await here.put("cars", "a", {"n": 1}, idempotency_key="k-1") == first
    with pytest.raises(IdempotencyKeyReused):
        await here.put("cars", "a", {"n": 2}, idempotency_key="k-1")
    made = await here.add("cars", {"n": 1}, idempotency_key="k-2")
    assert (await here.add("cars", {"n": 1}, idempotency_key="k-2")).key == made.key


async def test_a_scan_shows_one_moment_over_all_its_pages(client: Client, ledger: str) -> None:
    here = client.ledger(ledger)
    await here.bulk(
        (BulkLine(key=f"k{number:04d}", data={"n": number}) for number in range(1200)), table="cars"
    )
    seen: list[str] = []
    async for document in here.scan("cars"):
        if not seen:
            await here.put("cars", "k1199x", {"late": True})
        seen.append(document.key)
    assert seen == [f"k{number:04d}" for number in range(1200)]
    assert len([document async for document in here.scan("cars")]) == 1201
    some = [document.key async for document in here.scan("cars", prefix="k01", after="k0150", limit=3)]
    assert some == ["k0151", "k0152", "k0153"]


async def test_transactions_are_all_or_nothing(client: Client, ledger: str) -> None:
    here = client.ledger(ledger)
    committed = await here.transact(
        [Put("cars", "a", {"n": 1}), Put("default", "b", {"n": 2})], conditions=[VersionIs("cars", "a", None)]
    )
    assert [(made.key, made.version) for made in committed.revisions] == [("a", 0), ("b", 0)]
    with pytest.raises(ConditionFailed) as refused:
        await here.transact(
            [Delete("default", "b")], conditions=[VersionIs("cars", "a", 0), VersionIs("default", "b", 7)]
        )
    assert refused.value.problem is not None
    assert refused.value.problem.condition == 1
    assert (await here.get("default", "b")).version == 0

    read_seq = committed.seq
    await here.put("cars", "c", {})
    unchanged = await here.transact(
        [Delete("default", "b")],
        conditions=[Unchanged("cars", key="a"), Unchanged("default"), Unchanged("cars", prefix="x")],
        read_seq=read_seq,
    )
    for stale in (Unchanged("cars"), Unchanged("cars", prefix="c")):
        with pytest.raises(ConditionFailed):
            await here.transact([Put("cars", "d", {})], conditions=[stale], read_seq=read_seq)
    assert (await here.transaction(unchanged.tx)).status == "committed"
    assert (await here.transaction("0" * 32)).status == "unknown"


async def test_bulk_refuses_line_by_line_and_resumes(client: Client, ledger: str) -> None:
    here = client.ledger(ledger)
    lines: list[BulkLine | bytes] = [
        BulkLine(key="a", data={"n": 1}),
        BulkLine(key="../x", data={}),
        b'{"key":"b","data":{"n":1,"n":2}}',
        BulkLine(data={"made": "key"}),
        BulkLine(key="c", data={}, table="default"),
        BulkLine(key="a", op="delete"),
    ]
    report = await here.bulk(lines, table="cars", idempotency_key="load")
    assert (report.accepted, report.refused) == (4, 2)
    assert [refusal.line for refusal in report.refusals] == [2, 3]
    with pytest.raises(Gone):
        await here.get("cars", "a")
    size = (await here.info()).size
    again = await here.bulk(lines, table="cars", idempotency_key="load")
    assert (again.accepted, again.duplicates, again.refused) == (4, 4, 2)
    assert (await here.info()).size == size
    with pytest.raises(NotFound):
        await client.ledger("nothing").bulk(BulkLine(key="a", data={}) for _ in range(100_000))


async def test_the_journal_is_read_proved_and_exported(single: Cluster, client: Client, ledger: str) -> None:
    here = client.ledger(ledger)
    written = [await here.put("cars", f"k{number}", {"n": number}) for number in range(10)]
    block = await here.block(written[3].seq)
    assert block["revisions"][0]["data"] == {"n": 3}
    blocks = [block async for block in here.blocks(2, limit=5)]
    assert [block["header"]["seq"] for block in blocks] == [2, 3, 4, 5, 6]

    checkpoint = await here.checkpoint()
    assert checkpoint.verified
    proof = await here.inclusion(4, checkpoint.size)
    path = [bytes.fromhex(node) for node in proof.path]
    verify_inclusion(bytes.fromhex(proof.leaf_hash), 4, checkpoint.size, path, checkpoint.root)

    exported = [line async for line in here.export()]
    key = VerifierKey.parse(await here.verifier_key())
    report = verify_export(exported, key)
    assert (report.blocks, report.root) == (checkpoint.size, checkpoint.root)
    part = [line async for line in here.export(3, 5)]
    assert part[1:] == exported[4:6]


def test_the_blocking_client_does_the_same_from_many_threads(single: Cluster, ledger: str) -> None:
    with BlockingClient(url_of(single), trust=TrustPolicy(single.verifier_key)) as client:
        here = client.ledger(ledger)

        def work(name: str) -> None:
            for number in range(20):
                here.put("cars", f"{name}-{number:02d}", {"n": number})
                assert here.get("cars", f"{name}-{number:02d}").data == {"n": number}

        threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(list(here.scan("cars"))) == 80
        assert [document.key for document in itertools.islice(here.scan("cars"), 2)] == ["t0-00", "t0-01"]
        assert len(list(here.history("cars", "t0-00"))) == 1
        assert sum(1 for _ in here.export()) == here.info().size + 1
        report = here.bulk(BulkLine(key=str(number), data={}) for number in range(5000))
        assert report.accepted == 5000
        with pytest.raises(Invalid):
            here.put("cars", "..", {})
        assert BlockingClient.ledger.__doc__
        assert here.put.__doc__
    with pytest.raises(SteleError, match="closed"):
        here.info()
