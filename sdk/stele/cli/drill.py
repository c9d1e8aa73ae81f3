"""stele drill …"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from stele.cli.connection import OUTPUT, Output, read_policy
from stele.cli.drill_desk import Altered, Demo, DemoNode, Desk, Looked
from stele.cli.drill_looks import Look, alarms_of, auditor_looks, client_looks, node_bound, serves
from stele.cli.exits import Exit, UsageError, complain
from stele.client import Client, SteleError, Unavailable
from stele.client.trust import TrustPolicy

TABLE = "records"
BLOCKS_OF_A_TILE = 256
WRITES_AT_ONCE = 64
POLL_S = 0.1
START_WITHIN_S = 30.0
FOUND_WITHIN_S = 60.0
WHOLE_WITHIN_S = 90.0
WRITES_MAX = 40

What = Literal["revision", "block", "current", "bucket", "tile", "checkpoint", "file"]
COLUMNS = ("who", "noticed", "how")

drill_app = App(name="drill", help="Damage a demo cluster on purpose, and see who notices.")


@drill_app.command(name="tamper")
def tamper(
    demo: Path,
    /,
    *,
    what: What = "revision",
    node: str | None = None,
    byte: Annotated[int | None, Parameter(name="--byte")] = None,
    output: Output = OUTPUT,
) -> int:
    """Alter a byte on the disk of one node behind its back, and show who notices and how.

    Works on a demo cluster only (make run, steled demo), of three nodes or more. The byte belongs to a ledger
    that the drill makes and deletes. At the end the node has thrown its data away and got everything from the
    others. Ends with exit code 1 when nobody noticed.

    Parameters
    ----------
    demo
        The demo's data directory; make run has it in var/demo.
    what
        Which byte: of a document's content (revision), of a block's header (block), of the row that says
        which version is current (current), of the state map (bucket), of the journal's tree (tile), of a
        signed checkpoint (checkpoint), or any of the file that has the document (file), past the database.
    node
        The node to damage; by default one that does not lead.
    byte
        Its offset in the row or file; by default one that shows.
    """
    return asyncio.run(_tamper(demo, what, node, byte, output))


async def _tamper(path: Path, what: What, node: str | None, byte: int | None, output: Output) -> int:
    desk = await Desk.open(path)
    try:
        demo = await desk.describe()
        policy = str(read_policy(Path(demo.policy)))
        async with Client([each.http for each in demo.nodes], trust=TrustPolicy.parse(policy)) as client:
            drill = _Drill(desk, demo, client, policy, await _victim(demo, client, node))
            altered, looks = await drill.run(what, byte)
    finally:
        desk.close()
    _print(drill.victim.id, altered, looks, output)
    return Exit.OK if any(look.noticed for look in looks) else Exit.ERROR


async def _victim(demo: Demo, client: Client, node: str | None) -> DemoNode:
    leader = (await client.cluster()).leader
    known = {each.id: each for each in demo.nodes}
    chosen = node or next((each for each in sorted(known) if each != leader), "")
    if chosen not in known:
        raise UsageError(f"the demo has no node {chosen!r}; it has {', '.join(sorted(known))}")
    return known[chosen]


def _print(node: str, altered: Altered, looks: list[Look], output: Output) -> None:
    members = {
        "node": node,
        "altered": altered.where,
        "row": altered.row,
        "byte": altered.byte,
        "of": altered.size_bytes,
        "before": altered.before,
        "after": altered.after,
    }
    printer = output.printer()
    found = [look._asdict() for look in looks]
    if output.format == "json":
        printer.item(members | {"looks": found})
        return
    if output.format == "table":
        printer.item(members)
    printer.items(found, COLUMNS)


class _Drill:
    """One drill on one node, with a ledger of its own."""

    def __init__(self, desk: Desk, demo: Demo, client: Client, policy: str, victim: DemoNode) -> None:
        self._desk = desk
        self._client = client
        self._policy = policy
        self.victim = victim
        self._peers = [each for each in demo.nodes if each.id != victim.id]
        self._name = f"drill-{secrets.token_hex(4)}"
        self._key = f"record-{secrets.token_hex(4)}"
        self._ledger = client.ledger(self._name)
        self._written: dict[str, Any] = {"payee": "Ada", "amount": 100}

    async def run(self, what: What, byte: int | None) -> tuple[Altered, list[Look]]:
        """Raises InputError and SteleError; the demo heals the node in any case."""
        await self._prepare(what)
        try:
            altered = await self._desk.alter(
                self.victim.id, kind=what, ledger=self._name, table=TABLE, key=self._key, byte=byte
            )
            complain(f"{self.victim.id}: {altered.where}: byte {altered.byte} is altered")
            looks = await self._watch(what)
            complain(f"{self.victim.id} throws its data away, and gets everything from the others")
            await self._desk.heal()
            await self._until_whole()
        finally:
            await self._client.delete_ledger(self._name)
        return altered, looks

    async def _prepare(self, what: What) -> None:
        """A ledger with a document that is sealed, cosigned, and on the victim's disk."""
        await self._client.create_ledger(self._name, deletion_protection=False)
        await self._ledger.create_table(TABLE)
        others = BLOCKS_OF_A_TILE if what == "tile" else 2
        for first in range(0, others, WRITES_AT_ONCE):
            numbers = range(first, min(first + WRITES_AT_ONCE, others))
            await asyncio.gather(*(self._ledger.put(TABLE, f"other-{n}", {"n": n}) for n in numbers))
        await self._ledger.put(TABLE, self._key, self._written)
        await self._ledger.get(TABLE, self._key)
        await self._until(self._victim_proves, WHOLE_WITHIN_S, f"{self.victim.id} has what was written")

    async def _victim_proves(self) -> bool:
        """Whether the victim's own answer holds."""
        async with node_bound(self.victim, self._policy) as client:
            try:
                found = await client.ledger(self._name).get(TABLE, self._key, consistency="snapshot")
            except SteleError:
                return False
        return found.data == self._written

    async def _watch(self, what: What) -> list[Look]:
        """First with the node's scrub off, so that the others see what it would serve; then with it."""
        await self._until(self._serves_or_ended, START_WITHIN_S, f"{self.victim.id} starts")
        looks = await self._others_look()
        if what == "current":
            looks += await self._write_on()
        peers = await self._peers_look()
        looked = await self._desk.look()
        if not looked.ends:
            await self._desk.scrub()
            await self._until(self._ended, FOUND_WITHIN_S, "")
            looked = await self._desk.look()
        return [*looks, peers, _node_look(self.victim.id, looked)]

    async def _others_look(self) -> list[Look]:
        if await self._ended():
            why = f"is told nothing: {self.victim.id} does not serve with such data"
            return [Look("client", False, why), Look("auditor", False, why)]
        node, policy, name = self.victim, self._policy, self._name
        return [
            await client_looks(node, policy, name, TABLE, self._key, self._written),
            await auditor_looks(node, policy, name),
        ]

    async def _serves_or_ended(self) -> bool:
        return await self._ended() or await serves(self.victim)

    async def _ended(self) -> bool:
        return bool((await self._desk.look()).ends)

    async def _write_on(self) -> list[Look]:
        """The next version goes by the current row: from here on the victim's journal is another one."""
        self._written = {**self._written, "amount": 900}
        await self._ledger.put(TABLE, self._key, self._written)
        looks = await self._others_look()
        for n in range(WRITES_MAX):  # Each seal has the next one to show the difference.
            if await self._ended() and await self._alarms():
                break
            await self._ledger.put(TABLE, "other-0", {"n": n})
            await asyncio.sleep(POLL_S)
        return [look._replace(who=f"{look.who}, after one more write") for look in looks]

    async def _alarms(self) -> list[str]:
        return [each for each in await alarms_of(self._peers) if self._name in each]

    async def _peers_look(self) -> Look:
        alarms = await self._alarms()
        if alarms:
            return Look("peers", True, "; ".join(alarms))
        return Look("peers", False, "agree among themselves; nothing that was altered has reached them")

    async def _until_whole(self) -> None:
        """The victim is a voter again and what it serves holds."""
        await self._until(self._is_voter, WHOLE_WITHIN_S, f"{self.victim.id} is a voter again")
        await self._until(self._victim_proves, WHOLE_WITHIN_S, f"{self.victim.id} serves what holds")

    async def _is_voter(self) -> bool:
        try:
            member = (await self._client.cluster(consistency="strong")).member(self.victim.id)
        except Unavailable:
            return False
        return member is not None and member.voter and bool(member.caught_up)

    async def _until(self, condition: Callable[[], Awaitable[bool]], within_s: float, what: str) -> None:
        """Returns when it holds, or late without a word where `what` is empty. Raises Unavailable."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + within_s
        while not await condition():
            if loop.time() > until_s:
                if what:
                    raise Unavailable(f"not within {within_s:.0f} s: {what}")
                return
            await asyncio.sleep(POLL_S)


def _node_look(node: str, looked: Looked) -> Look:
    if not looked.ends:
        return Look(node, False, "has scrubbed what it has, and found nothing")
    found = [text for text in looked.said if text.startswith("the scrub found")]
    said = (found or looked.said[-1:] or ["without a word"])[0]
    return Look(node, True, f"stops (exit code {looked.ends[0]}): {said}")
