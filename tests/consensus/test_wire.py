"""The Raft port: strangers, garbage, oversized frames, and what passes between members."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from consensus import limits
from consensus.errors import MalformedMessage
from consensus.framing import FrameReader, frame
from consensus.messages import (
    PROTOCOL_VERSION_MAX,
    Append,
    AppendResponse,
    Hello,
    Message,
    Notice,
    PreVote,
    PreVoteResponse,
    RequestVote,
    TimeoutNow,
    VoteResponse,
    Welcome,
    decode_frame,
    decode_greeting,
    decode_message,
    encode,
)
from tests.consensus.cluster import Cluster, until
from tests.consensus.cores import entries

COUNT = st.integers(0, (1 << 63) - 1)
MESSAGES = st.one_of(
    st.builds(RequestVote, COUNT, COUNT, COUNT, st.booleans()),
    st.builds(VoteResponse, COUNT, st.booleans()),
    st.builds(Append, COUNT, COUNT, COUNT, st.tuples(st.binary(max_size=99)), COUNT, COUNT, COUNT),
    st.builds(AppendResponse, COUNT, st.booleans(), COUNT, COUNT, COUNT, COUNT),
    st.builds(PreVote, COUNT, COUNT, COUNT),
    st.builds(PreVoteResponse, COUNT, COUNT, st.booleans()),
    st.builds(TimeoutNow, COUNT),
)


@given(MESSAGES)
def test_a_message_is_read_as_it_was_written(message: Message) -> None:
    assert decode_message(encode(message)) == message


@given(st.binary(max_size=limits.NOTICE_SIZE_BYTES_MAX))
def test_a_notice_is_no_message_of_raft(body: bytes) -> None:
    encoded = encode(Notice(body))
    assert decode_frame(encoded) == Notice(body)
    with pytest.raises(MalformedMessage):
        decode_message(encoded)


def test_a_notice_that_is_too_long_is_refused() -> None:
    with pytest.raises(MalformedMessage):
        decode_frame(encode(Notice(bytes(limits.NOTICE_SIZE_BYTES_MAX + 1))))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_or_exact(data: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        message = decode_message(data)
        assert decode_message(encode(message)) == message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x80",
        encode([10, 1, 1]),
        encode([10, 1, 1, 1, 1]),
        encode([10, -1, 1, 1, True]),
        encode([10, 1 << 63, 1, 1, True]),
        encode([10, "1", 1, 1, True]),
        encode([10, 1.0, 1, 1, True]),
        encode([11, 1, 1]),
        encode([12, 1, 1, 1, ["text"], 1, 1, 1]),
        encode([12, 1, 1, 1, [b""] * (limits.BATCH_ENTRIES_MAX + 1), 1, 1, 1]),
        encode([99, 1]),
        encode({"type": "request_vote"}),
        encode(Hello(1, 1, "c", "n0", "n1")),
    ],
)
def test_what_does_not_fit_its_type_exactly_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_message(body)


@pytest.mark.parametrize(
    "body",
    [
        encode([1, 1, 1, "c", "", "n1"]),
        encode([1, 1, 1, "c", "n" * 99, "n1"]),
        encode([1, 1, -1, "c", "n0", "n1"]),
        encode([1, 1, 1, "c", "n0"]),
        encode([3, 1, 1, "c", "n0", "n1"]),
        encode(TimeoutNow(1)),
    ],
)
def test_a_wrong_greeting_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_greeting(body)


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=20), st.lists(st.integers(1, 40), min_size=1))
def test_frames_are_cut_wherever_the_stream_is(bodies: list[bytes], pieces: list[int]) -> None:
    stream = b"".join(map(frame, bodies))
    reader, found, start = FrameReader(50), [], 0
    while start < len(stream):
        size = pieces[start % len(pieces)]
        found += list(reader.feed(stream[start : start + size]))
        start += size
    assert found == bodies


def test_a_frame_over_the_limit_is_refused_before_its_body_comes() -> None:
    for length in (b"\x00\x00\x00\x00", b"\x00\x00\x00\x33", b"\xff\xff\xff\xff"):
        with pytest.raises(MalformedMessage):
            list(FrameReader(50).feed(length))


def test_every_message_fits_a_frame_and_every_frame_an_empty_buffer() -> None:
    largest = limits.ENTRY_PAYLOAD_SIZE_BYTES_MAX + 100 * limits.BATCH_ENTRIES_MAX
    assert (
        max(largest, limits.BATCH_SIZE_BYTES_MAX + 5 * limits.BATCH_ENTRIES_MAX)
        <= limits.FRAME_SIZE_BYTES_MAX
    )
    assert limits.FRAME_SIZE_BYTES_MAX < limits.SEND_BUFFER_SIZE_BYTES_MAX


# On the port of a running member.


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """One for all tests below: whatever strangers do to it, it must go on."""
    async with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running
        assert running.fatal == []


on_cluster = pytest.mark.asyncio(loop_scope="module")
FOREIGN_TERM = 1_000_000


def refused(cluster: Cluster) -> int:
    return cluster.replicas["n0"].counters.connections_refused


async def check_at_work(cluster: Cluster) -> None:
    leader = await cluster.leader()
    await leader.propose(b"still at work")
    assert leader.status().term < FOREIGN_TERM


async def send_to(cluster: Cluster, number: int, data: bytes) -> bytes:
    """Sends `data` to a member's port; what it answered until it closed the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", cluster.ports[number])
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def hello(
    cluster: str = "test",
    sender: str = "n1",
    target: str = "n0",
    versions: tuple[int, int] = (1, PROTOCOL_VERSION_MAX),
) -> bytes:
    return frame(encode(Hello(*versions, cluster, sender, target)))


WELCOME = frame(encode(Welcome("n0", PROTOCOL_VERSION_MAX)))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(4),
        b"\xff\xff\xff\xff",
        (limits.GREETING_SIZE_BYTES_MAX + 1).to_bytes(4, "big"),
        frame(encode(RequestVote(FOREIGN_TERM, 99, 99, False))),
        frame(encode(Welcome("n1", 1))),
        hello(cluster="other"),
        hello(target="n1"),
        hello(sender="n9"),
        hello(sender="n0"),
        hello(versions=(PROTOCOL_VERSION_MAX + 1, PROTOCOL_VERSION_MAX + 2)),
        hello(versions=(0, 0)),
        hello(versions=(2, 1)),
    ],
)
@on_cluster
async def test_a_stranger_is_turned_away_without_an_answer(cluster: Cluster, data: bytes) -> None:
    before = refused(cluster)
    assert await send_to(cluster, 0, data) == b""
    assert refused(cluster) == before + 1
    await check_at_work(cluster)


@pytest.mark.parametrize(
    "data",
    [
        frame(b"garbage"),
        (limits.FRAME_SIZE_BYTES_MAX + 1).to_bytes(4, "big"),
        frame(encode(Append(FOREIGN_TERM, 1, 0, (entries(2, 99)[0][:-1],), 1, 0, 0))),
        hello(),
    ],
    ids=["garbage", "oversized", "bad record", "second hello"],
)
@on_cluster
async def test_a_member_that_sends_nonsense_loses_its_connection_and_nothing_happens(
    cluster: Cluster, data: bytes
) -> None:
    before = refused(cluster)
    assert await send_to(cluster, 0, hello() + data) == WELCOME
    assert refused(cluster) == before + 1
    # The real n1 lost its connection to this usurper of its name, and takes it back.
    await until(
        lambda: all(each.connected for each in cluster.replicas["n1"].status().members), "n1 is connected"
    )
    await check_at_work(cluster)


async def test_nonsense_is_logged_once_a_peer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Cluster(tmp_path) as cluster:
        for _ in range(3):
            await send_to(cluster, 0, b"\xff\xff\xff\xff")
            await send_to(cluster, 0, hello() + frame(b"garbage"))
        assert refused(cluster) == 6
    warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warnings) == 2


@on_cluster
async def test_who_does_not_greet_in_time_is_turned_away(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GREETING_TIMEOUT_S", 0.05)
    assert await send_to(cluster, 0, b"") == b""


@on_cluster
async def test_strangers_are_bounded_in_number(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest has to go, before its time is over, so that a member that comes back finds room."""
    monkeypatch.setattr(limits, "STRANGERS_MAX", 2)
    monkeypatch.setattr(limits, "GREETING_TIMEOUT_S", 60.0)
    strangers = [await asyncio.open_connection("127.0.0.1", cluster.ports[0]) for _ in range(3)]
    assert await asyncio.wait_for(strangers[0][0].read(), 10) == b""
    assert await send_to(cluster, 0, hello() + b"\xff\xff\xff\xff") == WELCOME
    assert await asyncio.wait_for(strangers[1][0].read(), 10) == b""
    assert not strangers[2][0].at_eof()
    for _, writer in strangers:
        writer.close()


@on_cluster
async def test_a_newer_member_is_met_at_the_version_that_both_speak(cluster: Cluster) -> None:
    """Its Hello may carry what this version does not know; nothing else may (see above)."""
    newer = frame(encode([1, 1, PROTOCOL_VERSION_MAX + 3, "test", "n1", "n0", b"", {"features": ["x"]}, 7]))
    assert await send_to(cluster, 0, newer + b"\xff\xff\xff\xff") == WELCOME
    await check_at_work(cluster)


def test_a_newer_welcome_is_read_too() -> None:
    assert decode_greeting(encode([2, "n0", 1, "more"])) == Welcome("n0", 1)


@on_cluster
async def test_random_bytes_do_not_disturb_a_cluster(cluster: Cluster) -> None:
    rng = random.Random(7)
    for _ in range(30):
        number = rng.randrange(3)
        await send_to(cluster, number, rng.randbytes(rng.randrange(1, 3_000)) + b"\xff\xff\xff\xff")
        await check_at_work(cluster)


@on_cluster
async def test_the_largest_entry_travels_whole(cluster: Cluster) -> None:
    leader = await cluster.leader()
    payload = random.Random(1).randbytes(limits.ENTRY_PAYLOAD_SIZE_BYTES_MAX)
    await leader.propose(payload)
    await until(
        lambda: all(m.applied and m.applied[-1][1] == payload for m in cluster.machines.values()),
        "all have applied it",
    )


@on_cluster
async def test_messages_that_do_not_fit_the_send_buffer_are_dropped_and_come_later(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SEND_BUFFER_SIZE_BYTES_MAX", 2 << 20)
    leader = await cluster.leader()
    before = len(cluster.machines[leader.status().node_id].applied)
    await asyncio.gather(*(leader.propose(bytes(50_000)) for _ in range(200)))
    await until(
        lambda: all(len(m.applied) == before + 200 for m in cluster.machines.values()), "all have applied"
    )
    assert leader.counters.messages_dropped > 0


@on_cluster
async def test_notices_reach_those_who_know_them_and_give_way_to_raft(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await check_at_work(cluster)
    heard: list[tuple[str, str, bytes]] = []

    def hear(node_id: str, peer_id: str, body: bytes) -> None:
        heard.append((node_id, peer_id, body))

    for node_id, replica in cluster.replicas.items():
        replica.on_notice(partial(hear, node_id))
    sender = cluster.replicas["n0"]
    await until(lambda: all(each.connected for each in sender.status().members), "n0 reaches everyone")
    assert sender.notify("n1", b"one") == 1
    assert sender.notify(None, b"all") == 2
    await until(lambda: len(heard) == 3, "all notices have come")
    assert sorted(heard) == [("n1", "n0", b"all"), ("n1", "n0", b"one"), ("n2", "n0", b"all")]
    assert sender.notify("n9", b"nobody") == 0
    with pytest.raises(ValueError, match="at most"):
        sender.notify(None, bytes(limits.NOTICE_SIZE_BYTES_MAX + 1))
    monkeypatch.setattr(limits, "NOTICE_SEND_BUFFER_SIZE_BYTES_MAX", 0)
    assert sender.notify(None, b"Raft goes first") == 0
