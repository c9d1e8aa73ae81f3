"""Sealing: a block that commits to the state map. Deterministic, as all of apply."""

from __future__ import annotations

import hashlib

from stele.format.block import information_bytes, seal_header_bytes
from stele.format.limits import HASH_SIZE_BYTES
from stele.format.merkle import leaf_hash
from stele.format.state_map import key_hash_prefix
from storage import keys, limits, rows
from storage.commands import Seal
from storage.disk import Disk
from storage.journal import decode_leaf
from storage.ledger_state import LedgerState, stored_block
from storage.outcomes import Committed, Outcome, Refused
from storage.transact import extend_journal
from storage.transition import Dispute, Transition

_sha256 = hashlib.sha256


def seal(state: LedgerState, transition: Transition, command: Seal) -> Outcome:
    """Appends a seal when there are blocks since the newest one.

    When the proposer's last seal is not this replica's, one of the two has another journal or another state.
    Which one, apply cannot know: it goes on with its own, and `Transition.disputes` says so.
    """
    if command.id != state.row.id:
        return Refused("ledger-unknown", f"the ledger {command.ledger!r} with that id was dropped")
    _compare_previous(transition, state, command)
    sealed = state.sealed
    if sealed is not None and sealed.size == state.size:
        return Refused("nothing-to-seal", f"block {state.size - 1} of {command.ledger!r} is a seal")
    _update_map(state, transition)
    seq = state.size
    at = max(command.at, state.last_at)
    information = information_bytes(command.by)
    header = seal_header_bytes(
        ledger=state.row.id,
        seq=seq,
        prev=state.head,
        at_us=at,
        tx=command.tx,
        information_hash=_sha256(information).digest(),
        state_root=state.map.root,
    )
    extend_journal(state, transition, header, information, (), at)
    state.sealed = rows.Sealed(state.size, state.tree.root(state.size), state.map.root)
    transition.put(keys.seal(state.number, state.size), rows.encode(state.sealed))
    outcome = Committed(seq, at, command.tx, ())
    transition.record_commit(state, outcome, b"", b"", None)
    return outcome


def forget_unsealed(state: LedgerState) -> None:
    """Bounds the memory of revisions since the newest seal: past the bound their blocks are read again.

    Only between entries, when every block is on the disk.
    """
    if len(state.unsealed) > limits.UNSEALED_KEYS_KEPT_MAX:
        state.map.forget()
        state.unsealed = {}
        state.unsealed_from = state.size


def work_ahead(state: LedgerState, keys_min: int) -> None:
    """Does the greater part of the next seal's work now, once so many keys wait for it.

    Only between entries. Nothing that anybody can see changes before the seal: whether and when this is
    called decides nothing but how long the seal takes. Past a bound no more is done: no seal seems to come.
    """
    if len(state.unsealed) < keys_min or state.map.staged_rows >= limits.SEAL_STAGED_ROWS_MAX:
        return
    sealed_size = 0 if state.sealed is None else state.sealed.size
    if state.unsealed_from <= sealed_size:
        state.map.stage(_packed(state.unsealed))
        state.unsealed = {}


def keys_until_seal(state: LedgerState, *, only_streams: bool = False) -> int:
    """At how many revised keys it is time for a seal, however young the first of them is."""
    by_size = limits.SEAL_KEYS_TIMES_BUCKETS // state.map.tree.buckets
    keys = max(limits.SEAL_KEYS_MIN, min(by_size, limits.SEAL_KEYS_MAX))
    return keys * limits.SEAL_KEYS_STREAMED_FACTOR if only_streams else keys


def seal_again(disk: Disk, state: LedgerState, start: int, size: int) -> None:
    """What seals made of the blocks from `start` to `size` (exclusive), done again at a start: the last of
    them was at `size`. Each key's newest row is all that counts."""
    state.map.stage(_packed(revisions_between(disk, state, start, size)))
    state.map.seal(size)


def _compare_previous(transition: Transition, state: LedgerState, command: Seal) -> None:
    """The proposer had applied its last seal before it proposed, so this replica has applied it too. A
    newer one may have come between."""
    size, root = command.previous_size, command.previous_root
    if size == 0 and root == bytes(HASH_SIZE_BYTES):
        return
    own = state.sealed
    if own is None or own.size != size:
        stored = transition.disk.get(keys.seal(state.number, size))
        own = None if stored is None else rows.decode_sealed(stored)
    if own is None or own.root != root:
        found = None if own is None else own.root
        transition.disputes.append(Dispute(state.name, state.row.id, size, root, found))


def _update_map(state: LedgerState, transition: Transition) -> None:
    unsealed = state.unsealed
    sealed_size = 0 if state.sealed is None else state.sealed.size
    if state.unsealed_from > sealed_size:
        unsealed = revisions_between(transition.disk, state, sealed_size, state.unsealed_from) | unsealed
    state.map.stage(_packed(unsealed))
    state.map.seal(state.size + 1)
    state.unsealed = {}
    state.unsealed_from = state.size


def _packed(unsealed: dict[bytes, bytes]) -> list[bytes]:
    """The rows of the map: current rows without their leaf index and operation."""
    return [_sha256(place).digest() + row[:16] + row[-HASH_SIZE_BYTES:] for place, row in unsealed.items()]


def revisions_between(disk: Disk, state: LedgerState, start: int, end: int) -> dict[bytes, bytes]:
    """The newest revision of each key in blocks `start` to `end` (exclusive), as `LedgerState.unsealed`
    has them."""
    found: dict[bytes, bytes] = {}
    prefixes: dict[str, bytes] = {}
    for seq in range(start, end):
        for index, encoded in enumerate(stored_block(disk, state.number, seq).leaves):
            leaf = decode_leaf(encoded)
            prefix = prefixes.get(leaf.table)
            if prefix is None:
                prefix = prefixes[leaf.table] = key_hash_prefix(state.row.id, leaf.table)
            row = rows.encode_current(leaf.version, seq, index, rows.OP_NUMBERS[leaf.op], leaf_hash(encoded))
            found[prefix + leaf.key.encode()] = row
    return found
