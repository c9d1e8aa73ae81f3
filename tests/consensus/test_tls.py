"""Mutual TLS on the Raft port: who is let in, who is not, and that the cluster does not notice."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from consensus import limits
from consensus.framing import frame
from consensus.messages import PROTOCOL_VERSION_MAX, Append, Hello, Welcome, encode
from node import certificates
from node.certificates import Issued, Validity, new_authority, new_member
from tests.consensus.cluster import Cluster, until

FOREIGN_TERM = 1_000_000
WELCOME = frame(encode(Welcome("n0", PROTOCOL_VERSION_MAX)))
DAY = Validity.days(1)
PAST = Validity(datetime.now(UTC) - timedelta(days=9), datetime.now(UTC) - timedelta(days=1))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """One for all tests that attack n0: whatever is done to it, it must go on."""
    async with Cluster(tmp_path_factory.mktemp("cluster"), secured=True) as running:
        yield running
        assert running.fatal == []


on_cluster = pytest.mark.asyncio(loop_scope="module")


def authority(cluster: Cluster) -> Issued:
    return certificates.read_authority(cluster.certificates, "test")


def context_of(folder: Path, issued: Issued | None) -> ssl.SSLContext:
    """A client that believes everybody, and shows this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if issued is not None:
        (folder / "certificate.pem").write_bytes(issued.certificate_pem())
        (folder / "key.pem").write_bytes(issued.key_pem())
        context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


def hello(sender: str = "n1") -> bytes:
    return frame(encode(Hello(1, PROTOCOL_VERSION_MAX, "test", sender, "n0")))


async def send_to(port: int, data: bytes, context: ssl.SSLContext | None) -> bytes:
    """Sends `data`; what was answered until the connection was closed."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    except OSError:
        return b""
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(), 10)
    except OSError:
        return b""
    finally:
        writer.transport.abort()


def refused(cluster: Cluster) -> int:
    return cluster.replicas["n0"].counters.connections_refused


async def check_at_work(cluster: Cluster) -> None:
    leader = await cluster.leader()
    await leader.propose(b"still at work")
    assert leader.status().term < FOREIGN_TERM


async def check_refused(
    cluster: Cluster, caplog: pytest.LogCaptureFixture, data: bytes, context: ssl.SSLContext | None
) -> str:
    """Three attempts, all without an answer, all counted, at most one logged. Returns what was logged."""
    caplog.clear()
    before, term = refused(cluster), (await cluster.leader()).status().term
    for _ in range(3):
        assert await send_to(cluster.ports[0], data, context) == b""
        await check_at_work(cluster)
    await until(lambda: refused(cluster) == before + 3, "all three are refused")
    assert (await cluster.leader()).status().term == term
    warnings = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(warnings) <= 1
    return "".join(warnings)


# Who is not let in.


@on_cluster
async def test_a_strangers_certificate(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = new_member(new_authority("test", DAY), "test", "n1", DAY)
    said = await check_refused(cluster, caplog, hello(), context_of(tmp_path, stranger))
    assert "CERTIFICATE_VERIFY_FAILED" in said


@on_cluster
async def test_an_expired_certificate(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expired = new_member(authority(cluster), "test", "n1", PAST)
    said = await check_refused(cluster, caplog, hello(), context_of(tmp_path, expired))
    assert "certificate has expired" in said


@on_cluster
async def test_no_certificate(cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said = await check_refused(cluster, caplog, hello(), context_of(tmp_path, None))
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in said


@on_cluster
async def test_the_certificate_of_another_cluster(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two clusters may share an authority."""
    other = new_member(authority(cluster), "other", "n1", DAY)
    said = await check_refused(cluster, caplog, hello(), context_of(tmp_path, other))
    assert "urn:stele:other:node:n1 is no other member" in said


@pytest.mark.parametrize("node_id", ["n9", "n0"])
@on_cluster
async def test_the_certificate_of_no_other_member(cluster: Cluster, tmp_path: Path, node_id: str) -> None:
    before = refused(cluster)
    context = context_of(tmp_path, new_member(authority(cluster), "test", node_id, DAY))
    assert await send_to(cluster.ports[0], hello(node_id), context) == b""
    assert refused(cluster) == before + 1


@on_cluster
async def test_a_member_that_calls_itself_another(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    n2 = new_member(authority(cluster), "test", "n2", DAY)
    vote = frame(encode(Append(FOREIGN_TERM, 0, 0, (), 0, 0, 0)))
    await check_refused(cluster, caplog, hello("n1") + vote, context_of(tmp_path, n2))


@on_cluster
async def test_tls_older_than_1_3(cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = context_of(tmp_path, new_member(authority(cluster), "test", "n1", DAY))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert "UNSUPPORTED_PROTOCOL" in await check_refused(cluster, caplog, hello(), context)


@pytest.mark.parametrize(
    "data",
    [hello(), b"GET / HTTP/1.1\r\n\r\n", bytes(2_000), b"\x16\x03\x01\xff\xff" + bytes(3_000)],
    ids=["plain hello", "http", "zeros", "oversized record"],
)
@on_cluster
async def test_plain_bytes_on_a_tls_port(
    cluster: Cluster, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    before = refused(cluster)
    await send_to(cluster.ports[0], data, None)
    await until(lambda: refused(cluster) == before + 1, "it is refused")
    await check_at_work(cluster)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        (limits.GREETING_SIZE_BYTES_MAX + 1).to_bytes(4, "big"),
        frame(b"garbage"),
        frame(encode(Append(FOREIGN_TERM, 0, 0, (), 0, 0, 0))),
    ],
    ids=["oversized", "oversized greeting", "garbage", "no hello"],
)
@on_cluster
async def test_a_member_that_does_not_greet(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    n1 = new_member(authority(cluster), "test", "n1", DAY)
    await check_refused(cluster, caplog, data, context_of(tmp_path, n1))


@on_cluster
async def test_more_than_a_greeting_before_the_welcome_is_not_kept(cluster: Cluster, tmp_path: Path) -> None:
    context = context_of(tmp_path, new_member(authority(cluster), "test", "n1", DAY))
    assert await send_to(cluster.ports[0], bytes(1 << 20), context) == b""
    await check_at_work(cluster)


@on_cluster
async def test_a_truncated_frame_waits_and_then_is_forgotten(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GREETING_TIMEOUT_S", 0.3)
    context = context_of(tmp_path, new_member(authority(cluster), "test", "n1", DAY))
    assert await send_to(cluster.ports[0], hello()[:-1], context) == b""
    await check_at_work(cluster)


@on_cluster
async def test_who_does_not_finish_the_handshake_in_time(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GREETING_TIMEOUT_S", 0.1)
    assert await send_to(cluster.ports[0], b"", None) == b""
    assert await send_to(cluster.ports[0], b"\x16\x03\x01", None) == b""
    await check_at_work(cluster)


@on_cluster
async def test_unfinished_handshakes_are_bounded_in_number(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STRANGERS_MAX", 4)
    monkeypatch.setattr(limits, "GREETING_TIMEOUT_S", 60.0)
    waiting = [await asyncio.open_connection("127.0.0.1", cluster.ports[0]) for _ in range(20)]
    for reader, _ in waiting[:16]:
        assert await asyncio.wait_for(reader.read(), 10) == b""
    assert not any(reader.at_eof() for reader, _ in waiting[16:])
    for _, writer in waiting:
        writer.close()
    await check_at_work(cluster)


async def until_connected(cluster: Cluster) -> None:
    """Whoever used n1's certificate took the place of n1's link, and n1 takes it back."""
    await until(
        lambda: all(each.connected for each in cluster.replicas["n1"].status().members), "n1 is connected"
    )


@pytest.mark.parametrize(
    "data",
    [frame(b"garbage"), (limits.FRAME_SIZE_BYTES_MAX + 1).to_bytes(4, "big"), hello()],
    ids=["garbage", "oversized", "second hello"],
)
@on_cluster
async def test_a_member_that_goes_mad_after_its_greeting(
    cluster: Cluster, tmp_path: Path, data: bytes
) -> None:
    before = refused(cluster)
    context = context_of(tmp_path, new_member(authority(cluster), "test", "n1", DAY))
    assert await send_to(cluster.ports[0], hello() + data, context) == WELCOME
    assert refused(cluster) == before + 1
    await until_connected(cluster)
    await check_at_work(cluster)


@on_cluster
async def test_what_was_recorded_on_one_connection_is_worthless_on_another(
    cluster: Cluster, tmp_path: Path
) -> None:
    """A relay between n1 and n0 keeps the encrypted bytes; TLS keys are of one connection only."""
    recorded = bytearray()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_connection("127.0.0.1", cluster.ports[0])

        async def back() -> None:
            while answer := await there_reader.read(65_536):
                writer.write(answer)
            writer.close()

        going_back = asyncio.ensure_future(back())
        while data := await reader.read(65_536):
            recorded.extend(data)
            there.write(data)
        there.close()
        await going_back

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    context = context_of(tmp_path, new_member(authority(cluster), "test", "n1", DAY))
    port = server.sockets[0].getsockname()[1]
    assert await send_to(port, hello() + frame(b"end"), context) == WELCOME
    server.close()
    await until_connected(cluster)
    before = refused(cluster)
    for _ in range(3):
        assert WELCOME not in await send_to(cluster.ports[0], bytes(recorded), None)
    await until(lambda: refused(cluster) == before + 3, "every replay is refused")
    await check_at_work(cluster)


@on_cluster
async def test_attacks_take_no_memory(cluster: Cluster, tmp_path: Path) -> None:
    stranger = context_of(tmp_path, new_member(new_authority("test", DAY), "test", "n1", DAY))

    async def attack(times: int) -> None:
        for _ in range(times):
            await send_to(cluster.ports[0], os.urandom(2_000), None)
            await send_to(cluster.ports[0], hello(), stranger)

    transport = cluster.replicas["n0"]._transport
    await attack(20)
    tracemalloc.start()
    try:
        await attack(100)
        grown_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert grown_bytes < 2 << 20
    assert len(transport._reported) < 32
    await until(lambda: not transport._strangers, "no stranger is left")
