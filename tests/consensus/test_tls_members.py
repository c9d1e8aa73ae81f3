"""Members on mutual TLS: whom they dial, both event loops, and a change of authority under way."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

import pytest
import uvloop

from consensus import limits
from consensus.framing import frame
from consensus.messages import PROTOCOL_VERSION_MAX, Hello, Welcome, encode
from node import certificates
from node.certificates import credential_files, new_authority, new_member
from node.key_files import write_key_file
from tests.consensus.cluster import Cluster, until
from tests.consensus.test_tls import DAY, check_at_work, context_of, hello, send_to


async def speak_in_plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-x\r\n")
    writer.close()


async def test_the_wrong_member_at_the_other_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """n2's address leads to who shows the certificate of n1, or no TLS at all: n0 says nothing to it."""
    caplog.set_level(logging.DEBUG, "consensus.transport")
    async with Cluster(tmp_path, secured=True) as cluster:
        await cluster.leader()
        await cluster.stop("n2")
        heard: list[bytes] = []

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                heard.append(await reader.read())
            except OSError:
                heard.append(b"")
            writer.close()

        context = cluster.tls("n1").server_context()
        context.verify_mode = ssl.CERT_NONE
        server = await asyncio.start_server(listen, "127.0.0.1", cluster.ports[2], ssl=context)
        answered = "urn:stele:test:node:n1 answers where urn:stele:test:node:n2 should"
        await until(lambda: caplog.text.count(answered) >= 6, "both have tried again and again")
        server.close()
        plain = await asyncio.start_server(speak_in_plain, "127.0.0.1", cluster.ports[2])
        await until(lambda: "WRONG_VERSION_NUMBER" in caplog.text, "the other is no TLS")
        plain.close()
        assert set(heard) <= {b""}
        warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
        assert sum(answered in each for each in warnings) == 2  # Once by n0, once by n1.
        await check_at_work(cluster)
        await cluster.start("n2")
        await until(lambda: len(cluster.machines["n2"].applied) == 1, "n2 is back")


async def test_a_tls_member_and_a_plain_one_do_not_talk(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Cluster(tmp_path, secured=True) as cluster:
        await cluster.leader()
        await cluster.stop("n2")
        cluster.secured = False
        await cluster.start("n2")
        await until(lambda: cluster.replicas["n2"].counters.connections_refused > 3, "TLS was tried")
        assert cluster.replicas["n2"].leader_id is None
        assert not any(each.connected for each in cluster.replicas["n2"].status().members[:2])
        assert len([each for each in caplog.records if each.levelno == logging.WARNING]) <= 8
        for node_id in ("n0", "n1"):
            assert not cluster.replicas[node_id].status().members[2].connected


def test_it_runs_on_uvloop(tmp_path: Path) -> None:
    async def work() -> None:
        async with Cluster(tmp_path, secured=True) as cluster:
            leader = await cluster.leader()
            large = b"x" * limits.ENTRY_PAYLOAD_SIZE_BYTES_MAX
            assert await asyncio.gather(*(leader.propose(b"x") for _ in range(50))) == list(range(1, 51))
            assert await leader.propose(large) == 51
            before = sum(each.counters.connections_refused for each in cluster.replicas.values())
            for _ in range(3):
                assert await send_to(cluster.ports[0], b"GET / HTTP/1.1\r\n\r\n", None) == b""
            stranger = new_member(new_authority("test", DAY), "test", "n1", DAY)
            assert await send_to(cluster.ports[0], hello(), context_of(tmp_path, stranger)) == b""
            await until(
                lambda: (
                    sum(each.counters.connections_refused for each in cluster.replicas.values()) == before + 4
                ),
                "all are refused",
            )
            await cluster.stop((await cluster.leader()).status().node_id)
            await (await cluster.leader()).read_barrier()

    uvloop.run(work())


async def test_the_authority_is_replaced_while_the_cluster_works(tmp_path: Path) -> None:
    """As docs/operating.md says: first trust both, then renew, then trust the new one only."""
    async with Cluster(tmp_path, secured=True) as cluster:
        await (await cluster.leader()).propose(b"before")
        folder, members = cluster.certificates, list(cluster.machines)
        new = new_authority("test", DAY)
        old_pem = (folder / "ca.pem").read_bytes()

        async def step(authority_pem: bytes, *, certify: bool) -> None:
            write_key_file(folder / "ca.pem", authority_pem)
            for node_id in members:
                if certify:
                    issued = new_member(new, "test", node_id, DAY)
                    certificates.write(credential_files(folder, node_id), issued)
                await cluster.stop(node_id)
                await (await cluster.leader()).propose(b"meanwhile")
                await cluster.start(node_id)
                await (await cluster.leader()).propose(b"meanwhile")

        await step(old_pem + new.certificate_pem(), certify=False)
        await step(old_pem + new.certificate_pem(), certify=True)
        await step(new.certificate_pem(), certify=False)
        await until(lambda: {len(m.applied) for m in cluster.machines.values()} == {19}, "all is everywhere")


async def test_versions_that_do_not_meet_are_logged_once_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """n2 is of a later version that has given up ours: it refuses us, and we refuse it."""
    async with Cluster(tmp_path, secured=True) as cluster:
        await cluster.leader()
        await cluster.stop("n2")
        authority = certificates.read_authority(cluster.certificates, "test")
        n2 = context_of(tmp_path, new_member(authority, "test", "n2", DAY))
        later = PROTOCOL_VERSION_MAX + 1
        for _ in range(3):
            greeting = frame(encode(Hello(later, later + 1, "test", "n2", "n0")))
            assert await send_to(cluster.ports[0], greeting, n2) == b""

        async def welcome_at_a_later_version(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(frame(encode(Welcome("n2", later))))
            await writer.drain()

        caplog.set_level(logging.DEBUG, "consensus.transport")
        server = await asyncio.start_server(
            welcome_at_a_later_version, "127.0.0.1", cluster.ports[2], ssl=cluster.tls("n2").server_context()
        )
        unoffered = f"chose version {later} of the protocol, which was not offered"
        await until(lambda: caplog.text.count(unoffered) >= 4, "both have tried again")
        server.close()
        warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
        assert sum(f"it speaks versions {later} to {later + 1}" in each for each in warnings) == 1
        assert sum(unoffered in each for each in warnings) == 2  # Once by n0, once by n1.
        await check_at_work(cluster)
