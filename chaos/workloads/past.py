"""Readers of the past: documents as of a block or a time, and histories, at whichever node answers."""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple
from urllib.parse import quote

from chaos.history import Operation, Shown
from chaos.workloads.client import TABLE, Client, Request, document_path

_MOMENTS_MAX = 2_000
_PAGE = 5


class _Moment(NamedTuple):
    """A block that was acknowledged, its time, and a document that it wrote."""

    seq: int
    at: str
    key: str


class Past:
    """Remembers what was acknowledged, and asks for it again. What is right only the journal tells."""

    def __init__(self) -> None:
        self._moments: deque[_Moment] = deque(maxlen=_MOMENTS_MAX)

    def remember(self, operation: Operation) -> None:
        if operation.outcome == "ok" and operation.writes and operation.seq is not None and operation.as_of:
            self._moments.append(_Moment(operation.seq, operation.as_of, operation.writes[0].key))

    async def read(self, client: Client) -> None:
        """One read of one of three kinds; nothing before there is a past."""
        if not self._moments:
            return
        moment = client.rng.choice(self._moments)
        key = client.rng.choice(self._moments).key
        await client.turn()
        await client.rng.choice((self._as_of_block, self._as_of_time, self._history))(client, key, moment)

    async def _as_of_block(self, client: Client, key: str, moment: _Moment) -> None:
        # Followers answer, too, once they have the block.
        query = f"as_of_seq={moment.seq}&min_seq={moment.seq}&consistency=snapshot"
        path = f"{document_path(key)}?{query}"
        await client.read("as of", key, path, as_of_seq=moment.seq)

    async def _as_of_time(self, client: Client, key: str, moment: _Moment) -> None:
        path = f"{document_path(key)}?as_of={quote(moment.at)}"
        await client.read("as of", key, path, as_of_seq=moment.seq, as_of=moment.at)

    async def _history(self, client: Client, key: str, moment: _Moment) -> None:
        invoked_ns = time.monotonic_ns()
        query = f"limit={_PAGE}&min_seq={moment.seq}&consistency=snapshot"
        answer = await client.ask(Request("GET", f"{document_path(key)}/history?{query}"))
        outcome = answer.outcome
        shown: tuple[Shown, ...] = ()
        if outcome == "ok":
            shown = tuple(
                Shown(each["version"], each["seq"], each.get("data")) for each in answer.body["revisions"]
            )
        elif answer.error == "not-found":
            outcome = "ok"
        client.ended(
            answer,
            kind="history",
            outcome=outcome,
            table=TABLE,
            key=key,
            as_of_seq=moment.seq,
            shown=shown,
            invoked_ns=invoked_ns,
        )
