"""What the clients of a run do: registers, compare-and-set, deletions, and a bank."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable

from chaos.checkers.registers import CLIENTS_A_KEY_MAX
from chaos.workloads.client import Client

ACCOUNTS = tuple(f"account-{number}" for number in range(8))
OPENING_BALANCE = 100
_READERS_ONE_IN = 3


class Mix:
    """Closed loops over a few documents that many want. Every document written is unique."""

    def __init__(self, rng: random.Random, clients: int, registers: int = 16) -> None:
        self._rng = rng
        # Few enough clients on each register for the search of checkers/registers.py.
        self._groups = -(-clients // CLIENTS_A_KEY_MAX)
        self._registers = [f"register-{number}" for number in range(max(registers, self._groups))]
        self._count = itertools.count(1)

    async def open_accounts(self, client: Client) -> None:
        """Before the load begins. Raises RuntimeError when the cluster does not take it."""
        documents = {name: self._document(balance=OPENING_BALANCE) for name in ACCOUNTS}
        opened = await client.transfer(documents, {})
        if opened.outcome != "ok":
            raise RuntimeError(f"the accounts could not be opened: {opened.error}")

    def _document(self, **members: object) -> dict[str, object]:
        return {"n": next(self._count), **members}

    async def work(self, client: Client, stopped: asyncio.Event) -> None:
        """One client, until `stopped`."""
        acts: list[Callable[[Client], Awaitable[object]]] = [
            self._put,
            self._put,
            self._get,
            self._get,
            self._compare_and_set,
            self._delete,
            self._transfer,
        ]
        if client.number % _READERS_ONE_IN == 0:
            # A client that writes soon waits for a node that is cut off. Only one that never does goes on
            # asking it, and so sees what a leader that is none any more still shows.
            acts = [self._get]
        while not stopped.is_set():
            await self._rng.choice(acts)(client)

    def _register(self, client: Client) -> str:
        return self._rng.choice(self._registers[client.number % self._groups :: self._groups])

    async def _put(self, client: Client) -> None:
        await client.put(self._register(client), self._document())

    async def _get(self, client: Client) -> None:
        await client.get(self._rng.choice([self._register(client), *self._rng.sample(ACCOUNTS, 1)]))

    async def _compare_and_set(self, client: Client) -> None:
        key = self._register(client)
        shown = await client.get(key)
        if shown.outcome == "ok" and shown.version is not None and shown.data is not None:
            await client.put(key, self._document(), over=shown)

    async def _delete(self, client: Client) -> None:
        await client.delete(self._register(client))

    async def _transfer(self, client: Client) -> None:
        payer, payee = self._rng.sample(ACCOUNTS, 2)
        read = [await client.get(account) for account in (payer, payee)]
        balances = [each.data["balance"] for each in read if each.data is not None]
        versions = {each.key: each.version for each in read if each.version is not None}
        if len(balances) < 2 or len(versions) < 2:
            return
        amount = self._rng.randint(1, 10)
        paid = [int(str(balances[0])) - amount, int(str(balances[1])) + amount]
        documents = {
            name: self._document(balance=balance) for name, balance in zip(versions, paid, strict=True)
        }
        await client.transfer(documents, versions)
