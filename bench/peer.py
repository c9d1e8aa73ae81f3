"""What the benchmarks need of a database."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from bench.bulk import Loaded
from bench.connection import Address


class Load(NamedTuple):
    """A way to write many documents. Those written `again` are the first ones that were loaded before."""

    name: str
    streams: int
    again: bool = False


class Peer(Protocol):
    """A cluster of three nodes on the loopback that the generator can load."""

    name: str
    version: str
    command: str
    loads: Sequence[Load]

    async def start(self) -> None:
        """Start the cluster and wait until it serves; raises BenchmarkError when it does not."""
        ...

    def stop(self) -> None:
        """End every process that was started."""
        ...

    async def leader(self) -> Address:
        """Where the node that leads now serves HTTP."""
        ...

    def pids(self) -> Sequence[int]:
        """The processes of the nodes."""
        ...

    def puts(self) -> Sequence[bytes]:
        """One request for each key that writes the document under it."""
        ...

    def gets(self) -> Sequence[bytes]:
        """One linearizable read for each key."""
        ...

    async def load(self, load: Load, documents: int, seconds: float) -> Loaded:
        """Write many documents the fastest way the peer has.

        A peer without a stream of its own writes for ``seconds`` instead of a number of documents.
        """
        ...

    async def check(self) -> None:
        """Write one document, read it back and compare; raises BenchmarkError when it differs."""
        ...
