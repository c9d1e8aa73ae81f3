"""What the clients of a run do: registers, compare-and-set, deletions, a bank, lists, inserts, the past."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

from chaos import limits, rounds
from chaos.checkers.lists import LIST
from chaos.checkers.registers import CLIENTS_A_KEY_MAX
from chaos.history import Operation
from chaos.workloads.client import Client
from chaos.workloads.inserts import insert
from chaos.workloads.past import Past

ACCOUNTS = 8
OPENING_BALANCE = 100
_REGISTER, _LIST = "register-", "list-"
_REGISTERS = 16
_LISTS = 4
_OPEN_REGISTERS = 8
_READERS_ONE_IN = 3


def accounts_of(number: int) -> tuple[str, ...]:
    """The accounts of a round."""
    return tuple(rounds.key_in(number, f"account-{each}") for each in range(ACCOUNTS))


def is_list(key: str) -> bool:
    return key.partition(".")[2].startswith(_LIST)


def is_register(key: str) -> bool:
    """Of those with few enough clients for a search."""
    return key.partition(".")[2].startswith(_REGISTER)


class _Act(NamedTuple):
    weight: int
    do: Callable[[Client], Awaitable[object]]


class Mix:
    """Closed loops over a few documents that many want. Every document written is unique."""

    def __init__(self, rng: random.Random, clients: int) -> None:
        self._rng = rng
        # Few enough clients on each register for the search of checkers/registers.py.
        self._groups = -(-clients // CLIENTS_A_KEY_MAX)
        self._registers = max(_REGISTERS, self._groups)
        self._count = itertools.count(1)
        self._began_s = time.monotonic()
        self._opened = -1
        """The newest round whose accounts are known to be open."""
        self._generations = [0] * _LISTS
        self._past = Past()
        acts = (
            _Act(4, self._put),
            _Act(4, self._get),
            _Act(2, self._compare_and_set),
            _Act(2, self._delete),
            _Act(2, self._transfer),
            _Act(2, self._append),
            _Act(1, self._insert),
            _Act(2, self._past.read),
        )
        self._acts = [act.do for act in acts for _ in range(act.weight)]
        self._looks = [self._get, self._get, self._look_at_list, self._past.read]

    def remember(self, operation: Operation) -> None:
        """For readers of the past: what was acknowledged to anybody."""
        self._past.remember(operation)

    def _round(self) -> int:
        return int((time.monotonic() - self._began_s) / limits.ROUND_S)

    def _key(self, name: str) -> str:
        return rounds.key_in(self._round(), name)

    def _document(self, **members: object) -> dict[str, object]:
        return {"n": next(self._count), **members}

    async def work(self, client: Client, stopped: asyncio.Event) -> None:
        """One client, until `stopped`."""
        # A client that writes soon waits for a node that is cut off. Only one that never does goes on
        # asking it, and so sees what a leader that is none any more still shows.
        acts = self._looks if client.number % _READERS_ONE_IN == 0 else self._acts
        while not stopped.is_set():
            await self._rng.choice(acts)(client)

    async def open_act(self, client: Client) -> None:
        """One operation of the open loop, on registers of its own: more clients than a search can judge."""
        key = self._key(f"open-{self._rng.randrange(_OPEN_REGISTERS)}")
        if self._rng.random() < 0.5:
            await client.put(key, self._document())
        else:
            await client.get(key)

    def loads(self) -> Iterator[list[tuple[str, dict[str, object]]]]:
        """The documents of one bulk load after the other."""
        for number in itertools.count():
            # One round for all of it, as for everything that is one operation (chaos/rounds.py).
            at = self._round()
            yield [
                (rounds.key_in(at, f"load-{number}-{line}"), self._document())
                for line in range(limits.LOAD_LINES)
            ]

    def _register(self, client: Client) -> str:
        number = self._rng.choice(range(client.number % self._groups, self._registers, self._groups))
        return self._key(f"{_REGISTER}{number}")

    async def _put(self, client: Client) -> None:
        await client.put(self._register(client), self._document())

    async def _get(self, client: Client) -> None:
        account = self._rng.choice(accounts_of(self._round()))
        await client.get(self._rng.choice([self._register(client), account]))

    async def _compare_and_set(self, client: Client) -> None:
        key = self._register(client)
        shown = await client.get(key)
        if shown.outcome == "ok" and shown.version is not None and shown.data is not None:
            await client.put(key, self._document(), over=shown)

    async def _delete(self, client: Client) -> None:
        await client.delete(self._register(client))

    async def _insert(self, client: Client) -> None:
        document = self._document()
        await insert(client, self._key(f"insert-{document['n']}"), document)

    async def _transfer(self, client: Client) -> None:
        number = self._round()
        if self._opened < number:
            await self._open_accounts(client, number)
            return
        payer, payee = self._rng.sample(accounts_of(number), 2)
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
        await client.transact("transfer", documents, versions)

    async def _open_accounts(self, client: Client, number: int) -> None:
        """Whoever comes first; for everybody else they are there already."""
        accounts = accounts_of(number)
        documents = {name: self._document(balance=OPENING_BALANCE) for name in accounts}
        opening = await client.transact("transfer", documents, dict.fromkeys(accounts))
        if opening.outcome == "ok" or opening.error == "condition-failed":
            self._opened = max(self._opened, number)

    def _list(self, at: int, number: int) -> str:
        """The key of a list in round `at`."""
        return rounds.key_in(at, f"{_LIST}{number}-{self._generations[number]}")

    async def _look_at_list(self, client: Client) -> None:
        await client.get(self._list(self._round(), self._rng.randrange(_LISTS)))

    async def _append(self, client: Client) -> None:
        """A new element at the end of one list or of two, if they are still as they were read."""
        documents: dict[str, dict[str, object]] = {}
        versions: dict[str, int | None] = {}
        at = self._round()
        for number in sorted(self._rng.sample(range(_LISTS), self._rng.randint(1, 2))):
            shown = await client.get(self._list(at, number))
            if shown.outcome != "ok":
                return
            found = None if shown.data is None else shown.data[LIST]
            elements = list(found) if isinstance(found, list) else []
            if len(elements) + 1 >= limits.LIST_ELEMENTS_MAX:
                self._generations[number] += 1
            documents[shown.key] = {LIST: [*elements, next(self._count)]}
            versions[shown.key] = shown.version
        await client.transact("append", documents, versions)
