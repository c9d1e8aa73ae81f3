"""Having this node's keys recorded in the journal, and recording those of others while this node leads."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Protocol

import structlog

from consensus.errors import ConsensusError
from node import limits
from node.applied import AnnouncingMachine
from node.committer import CommitError
from node.key_journal import SYSTEM_LEDGER, KeyJournal
from node.notices import Stated, encode_notice
from node.own_keys import LogKeys, ReplicaKeys
from stele.format.key_statement import set_log_text, set_replica_text
from stele.format.note import sign_note
from stele.verify.errors import VerificationError
from stele.verify.key_history import KeyHistory

_log = structlog.get_logger("node.keys")


class Speaker(Protocol):
    """What publishing needs of a replica (consensus.replica.Replica)."""

    @property
    def is_leader(self) -> bool: ...

    @property
    def leader_id(self) -> str | None: ...

    def notify(self, peer_id: str | None, body: bytes) -> int: ...


class KeyPublishing:
    """Sees to it that the journal names this node's keys. Runs as one task until it is cancelled."""

    def __init__(
        self,
        cluster: str,
        node_id: str,
        keys: KeyJournal,
        own: ReplicaKeys,
        log_keys: LogKeys,
        speaker: Speaker,
        machine: AnnouncingMachine,
    ) -> None:
        self._log_name = f"{cluster}/{SYSTEM_LEDGER}"
        self._node_id = node_id
        self._keys = keys
        self._own = own
        self._log_keys = log_keys
        self._speaker = speaker
        self._machine = machine
        self._recording: set[asyncio.Task[bool]] = set()

    async def run(self) -> None:
        """Raises what a broken store raises."""
        while True:
            seen = self._keys.size
            note = self._statement(self._keys.history())
            if note is None:
                await self._machine.wait_until(partial(self._has_grown, seen), limits.KEY_CHECK_S)
                continue
            if self._speaker.is_leader:
                if await self._record(note):
                    continue
            elif self._speaker.leader_id is not None:
                self._speaker.notify(self._speaker.leader_id, encode_notice(Stated(note)))
            await asyncio.sleep(limits.KEY_PUBLISHING_PAUSE_S)

    def _has_grown(self, size: int) -> bool:
        return self._keys.size != size

    def stated(self, note: str) -> None:
        """Another node wants a statement recorded. It repeats itself: what cannot be done now is dropped."""
        if self._speaker.is_leader and len(self._recording) < limits.PEERS_MAX:
            task = asyncio.get_running_loop().create_task(self._record(note))
            self._recording.add(task)
            task.add_done_callback(self._recording.discard)

    async def stop(self) -> None:
        for task in list(self._recording):
            task.cancel()
        await asyncio.gather(*self._recording, return_exceptions=True)

    def alarm(self) -> str | None:
        """Why this node's cosignatures count for nothing, although it has been heard about its keys."""
        history = self._keys.history()
        named = [str(key) for key in history.replicas.get(self._node_id, ())]
        if named == self._own.keys.verifier_keys:
            return None
        if named:
            return f"the journal names another key of {self._own.name} than cosigner_key_file holds"
        if any(str(key) in self._own.keys.verifier_keys for _, key in history.retired):
            return f"the key of {self._own.name} was retired; rotate it"
        return None

    def lacks_log_key(self) -> bool:
        return not self._log_keys.signers(self._log_name, self._keys.history())

    def _statement(self, history: KeyHistory) -> str | None:
        """The next statement that is to be recorded, signed; None when there is none, or none is possible."""
        signers = self._log_keys.signers(self._log_name, history)
        if not signers:
            return None
        if history.log is None:
            return sign_note(set_log_text(signers[0].verifier_key()), signers[0])
        self._own.named_in(self._node_id, history)
        if history.replicas.get(self._node_id) or self.alarm() is not None:
            return None
        own = self._own.keys
        return sign_note(set_replica_text(self._node_id, own.verifier_keys), signers[0], own.plain)

    async def _record(self, note: str) -> bool:
        """Whether it was recorded."""
        try:
            recorded = await self._keys.record(note)
        except (ConsensusError, CommitError) as error:
            _log.debug("a statement about keys was not recorded yet", reason=str(error))
        except VerificationError as error:
            _log.info("a statement about keys was refused", reason=str(error))
        else:
            _log.info("keys recorded", seq=recorded.seq, statement=note.split("\n")[1])
            return True
        return False
