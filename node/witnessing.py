"""Having outside witnesses cosign this node's checkpoints (https://c2sp.org/tlog-witness).

Each node asks for itself, at its own pace, about the newest checkpoint of each ledger, and keeps what is
signed. Nothing waits for it: a witness that is slow, or away, costs only its own signature.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import aiohttp
import structlog

from node import limits
from node.checkpoints import Checkpoints, LogKeyMissing
from node.config import ConfigInvalid
from stele.client.errors import SteleError
from stele.client.witnesses import ask_witness
from stele.verify.checkpoint import Checkpoint
from stele.verify.errors import VerificationError
from stele.verify.limits import POLICY_SIZE_BYTES_MAX
from stele.verify.policy import TrustPolicy, Witness
from storage.checkpoints import Cosignature
from storage.errors import BlockUnknown, LedgerUnknown
from storage.store import LedgerInfo, Store

_log = structlog.get_logger("node.witnessing")


def read_witnesses(path: Path) -> dict[str, Witness]:
    """Those of a policy file that take checkpoints, which is to say, have a URL. Raises ConfigInvalid."""
    try:
        with path.open("rb") as file:
            policy = TrustPolicy.parse(file.read(POLICY_SIZE_BYTES_MAX + 1))
    except OSError as error:
        raise ConfigInvalid(f"witnesses_file: {path}: {error.strerror or error}") from error
    except VerificationError as error:
        raise ConfigInvalid(f"witnesses_file: {path}: {error}") from error
    found = {label: each for label, each in policy.witnesses.items() if each.url is not None}
    if not found:
        raise ConfigInvalid(f"witnesses_file: {path} names no witness with a URL")
    return found


class Witnessing:
    """Asks until it is stopped, every `interval_s`."""

    def __init__(
        self,
        store: Store,
        checkpoints: Checkpoints,
        witnesses: Mapping[str, Witness],
        interval_s: float,
        *,
        on_kept: Callable[[], None],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        """`on_kept()` is called whenever a cosignature was kept."""
        self.names = frozenset(each.key.name for each in witnesses.values())
        self._wanted = asyncio.Event()
        self._on_kept = on_kept
        self._store = store
        self._on_fatal = on_fatal
        self._checkpoints = checkpoints
        self._witnesses = witnesses
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None
        # What a witness cosigned last, so that it need not say so first.
        self._sizes: dict[tuple[bytes, str], int] = {}
        self._refusing: set[str] = set()

    def wanted(self, names: Collection[str]) -> None:
        """Somebody waits for these witnesses: they are asked at once."""
        if names:
            self._wanted.set()

    def start(self) -> None:
        if self._witnesses:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            async with aiohttp.ClientSession() as session:
                while True:
                    # Ledger by ledger for each witness; one that hangs holds up the next round, nothing else.
                    await asyncio.gather(*(self._round(session, label) for label in self._witnesses))
                    await self._until_wanted()
        except Exception as error:
            self._on_fatal(error)

    async def _until_wanted(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._interval_s):
                await self._wanted.wait()
        # What is sealed from here on has to be asked for again.
        self._wanted.clear()
        await asyncio.sleep(limits.WITNESS_PAUSE_S)

    async def _round(self, session: aiohttp.ClientSession, label: str) -> None:
        witness = self._witnesses[label]
        for info in self._store.ledgers():
            try:
                asked = await self._ask(session, witness, info)
            except (SteleError, LogKeyMissing, LedgerUnknown, BlockUnknown) as error:
                if label not in self._refusing:
                    self._refusing.add(label)
                    what = {"witness": label, "ledger": info.name, "reason": str(error)}
                    _log.warning("a witness has not cosigned", **what)
            else:
                if asked and label in self._refusing:
                    self._refusing.discard(label)
                    _log.info("a witness cosigns again", witness=label)

    async def _ask(self, session: aiohttp.ClientSession, witness: Witness, info: LedgerInfo) -> bool:
        """Whether there was something to ask. Raises SteleError, and what the parts raise."""
        sealed = self._store.sealed(info.name)
        key, rows = witness.key, self._store.checkpoints
        if sealed is None or rows.has_cosignature(info.number, sealed.size, key.key_id, key.name):
            return False
        note = self._checkpoints.of_seal(info.name, sealed)
        checkpoint = Checkpoint(self._checkpoints.origin(info), sealed.size, sealed.root)

        async def path(old: int, new: int) -> Sequence[bytes]:
            return self._store.journal(info.name).consistency(old, new)

        known = self._sizes.get((info.id, key.name), 0)
        lines = await ask_witness(
            session, witness, note, checkpoint, path, old_size=min(known, checkpoint.size)
        )
        self._keep(info, checkpoint.size, witness, lines)
        return True

    def _keep(self, info: LedgerInfo, size: int, witness: Witness, lines: str) -> None:
        """The line of the witness's key, which has been verified."""
        key = witness.key
        now = self._store.ledger(info.name)
        if now is None or now.id != info.id:
            return  # Dropped while the witness was asked.
        for line in lines.splitlines(keepends=True):
            try:
                key_id = base64.b64decode(line.removeprefix(f"\u2014 {key.name} "), validate=False)[:4]
            except binascii.Error:
                continue
            if key_id == key.key_id:
                kept = Cosignature(info.number, size, key.key_id, key.name, line)
                self._store.checkpoints.keep_cosignatures([kept])
                if len(self._sizes) >= limits.WITNESSED_SIZES_MAX:
                    self._sizes.clear()
                self._sizes[info.id, key.name] = size
                self._on_kept()
                return
