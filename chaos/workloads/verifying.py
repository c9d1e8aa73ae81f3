"""A reader that believes nothing: it holds on to every checkpoint it ever saw, and has each node prove that
the journal only grew from one of them to the next."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from typing import NamedTuple

import aiohttp

from chaos import limits
from chaos.workloads.client import LEDGER
from stele.verify.checkpoint import Checkpoint, parse_checkpoint, verify_growth
from stele.verify.errors import VerificationError
from stele.verify.note import VerifierKey


class Held(NamedTuple):
    """A checkpoint that bore the log's signature, and the node that served it."""

    node: str
    checkpoint: Checkpoint


class Verifier:
    """Asks random nodes for checkpoints, and other random nodes for proofs between those it holds.

    Afterwards `held` are all it ever saw, `proved` counts the proofs that it checked, and `refuted` says
    what was signed and served though it does not verify.
    """

    def __init__(self, endpoints: Sequence[str], verifier_key: str, rng: random.Random) -> None:
        self.held: list[Held] = []
        self.refuted: list[str] = []
        self.proved = 0
        self._endpoints = list(endpoints)
        self._key = VerifierKey.parse(verifier_key)
        self._rng = rng

    async def work(self, stopped: asyncio.Event) -> None:
        timeout = aiohttp.ClientTimeout(total=limits.ATTEMPT_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while not stopped.is_set():
                # A node that does not answer says nothing wrong.
                with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                    await self._once(session)
                await asyncio.sleep(limits.VERIFY_PERIOD_S)

    async def _once(self, session: aiohttp.ClientSession) -> None:
        served = await self._served(session)
        if served is None:
            return
        if self.held and len(self.held) < limits.CHECKPOINTS_HELD_MAX:
            await self._prove(session, self._rng.choice(self.held), served)
        if len(self.held) < limits.CHECKPOINTS_HELD_MAX:
            self.held.append(served)

    async def _served(self, session: aiohttp.ClientSession) -> Held | None:
        node = self._rng.choice(self._endpoints)
        async with session.get(f"{node}/v1/ledgers/{LEDGER}/checkpoint") as answer:
            if answer.status != 200:
                return None
            note = await answer.text()
        try:
            return Held(node, parse_checkpoint(note, self._key))
        except VerificationError as error:
            self.refuted.append(f"{node} served a checkpoint that does not verify: {error}")
            return None

    async def _prove(self, session: aiohttp.ClientSession, one: Held, other: Held) -> None:
        old, new = sorted((one.checkpoint, other.checkpoint), key=lambda each: each.size)
        node = self._rng.choice(self._endpoints)
        path = f"/v1/ledgers/{LEDGER}/proofs/consistency?from={old.size}&to={new.size}"
        async with session.get(node + path) as answer:
            if answer.status != 200:
                return  # It does not have so much yet.
            hashes = [bytes.fromhex(each) for each in (await answer.json())["path"]]
        try:
            verify_growth(old, new, hashes)
        except VerificationError as error:
            self.refuted.append(f"{one.node} and {other.node}, proved by {node}: {error}")
        else:
            self.proved += 1
