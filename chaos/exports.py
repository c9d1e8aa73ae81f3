"""The journals of all nodes as files, once the healed nodes have come to the same one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp

from chaos import limits
from chaos.lab.cluster import Cluster

_PIECE_BYTES = 1 << 20


async def until_equal(cluster: Cluster, ledger: str) -> None:
    """Raises TimeoutError with the sizes of the journals."""
    sizes: list[int] = []
    async with aiohttp.ClientSession() as session:
        try:
            async with asyncio.timeout(limits.CONVERGE_TIMEOUT_S):
                while len(sizes) < len(cluster.nodes) or len(set(sizes)) > 1 or -1 in sizes:
                    await asyncio.sleep(limits.POLL_S)
                    sizes = [await _size(session, endpoint, ledger) for endpoint in cluster.endpoints]
        except TimeoutError as error:
            raise TimeoutError(f"the healed nodes do not agree: journals of {sizes} blocks") from error


async def _size(session: aiohttp.ClientSession, endpoint: str, ledger: str) -> int:
    """-1 while the node does not tell."""
    try:
        async with session.get(f"{endpoint}/v1/ledgers/{ledger}?consistency=snapshot") as answer:
            return int((await answer.json())["size"]) if answer.status == 200 else -1
    except aiohttp.ClientError:
        return -1


async def fetch(cluster: Cluster, ledger: str, folder: Path) -> Mapping[str, Path]:
    """Every node's own export, as a file each. Raises aiohttp.ClientError."""
    timeout = aiohttp.ClientTimeout(total=None, sock_read=limits.READY_TIMEOUT_S)
    exports: dict[str, Path] = {}
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for node in cluster.nodes.values():
            exports[node.id] = folder / f"journal-{node.id}.ndjson"
            url = f"{node.http}/v1/ledgers/{ledger}/export?consistency=snapshot"
            async with session.get(url, raise_for_status=True) as answer:
                with exports[node.id].open("wb") as file:
                    async for piece in answer.content.iter_chunked(_PIECE_BYTES):
                        file.write(piece)
    return exports


def keep_one(exports: Sequence[Path], kept: Path) -> None:
    """When all nodes agree one file is enough of what may be gigabytes."""
    first, *others = exports
    for other in others:
        other.unlink()
    first.rename(kept)
