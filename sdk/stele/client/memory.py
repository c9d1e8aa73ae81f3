"""The newest checkpoint seen of each journal, and the keys trusted on first use.

A client that remembers notices when a server shows a shorter or another journal than before. What
is remembered is the signed note itself: two notes that contradict each other prove that the log
misbehaved. Entries go by verifier key, so two clusters that happen to share names stay apart.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from stele.client.errors import MemoryDamaged
from stele.client.limits import MEMORY_ENTRIES_MAX, MEMORY_SIZE_BYTES_MAX
from stele.files import write_whole


class Remembered(msgspec.Struct, frozen=True):
    """The newest checkpoint of one journal: the signed note, and the id of the ledger it is of."""

    note: str
    ledger_id: str


class CheckpointMemory(Protocol):
    """Where checkpoints and pinned keys are kept between calls."""

    def newest(self, verifier_key: str) -> Remembered | None:
        """The newest checkpoint accepted under this key."""
        ...

    def replace(self, verifier_key: str, expected: Remembered | None, new: Remembered) -> bool:
        """Remembers `new` if `expected` is still what is remembered; returns whether it was."""
        ...

    def pinned_key(self, endpoints: Sequence[str], ledger: str) -> str | None:
        """The verifier key trusted on first use for a ledger at any of these endpoints."""
        ...

    def pin(self, endpoints: Sequence[str], ledger: str, verifier_key: str) -> None:
        """Trusts `verifier_key` for the ledger at these endpoints from now on."""
        ...

    def forget(self, endpoints: Sequence[str], ledger: str, verifier_key: str | None) -> bool:
        """Drops the pins of a ledger, and the checkpoints under them and under `verifier_key`.

        Returns whether there was anything to drop.
        """
        ...


class _Contents(msgspec.Struct):
    format: int = 1
    pins: dict[str, str] = {}
    checkpoints: dict[str, Remembered] = {}


class InProcessMemory:
    """Remembers as long as the process lives."""

    def __init__(self) -> None:
        self._contents = _Contents()

    def newest(self, verifier_key: str) -> Remembered | None:
        return self._contents.checkpoints.get(verifier_key)

    def replace(self, verifier_key: str, expected: Remembered | None, new: Remembered) -> bool:
        return _replace(self._contents, verifier_key, expected, new)

    def pinned_key(self, endpoints: Sequence[str], ledger: str) -> str | None:
        return _pinned_key(self._contents, endpoints, ledger)

    def pin(self, endpoints: Sequence[str], ledger: str, verifier_key: str) -> None:
        _pin(self._contents, endpoints, ledger, verifier_key)

    def forget(self, endpoints: Sequence[str], ledger: str, verifier_key: str | None) -> bool:
        return _forget(self._contents, endpoints, ledger, verifier_key)


class CheckpointFile:
    """Remembers in a JSON file that several processes may share.

    Each change takes a lock, reads the file again, and replaces it in one step after an fsync, so a
    crash leaves the old file or the new one. A file that cannot be read raises MemoryDamaged: to start
    over without a memory would be exactly what a server that rolled back hopes for.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def newest(self, verifier_key: str) -> Remembered | None:
        return self._read().checkpoints.get(verifier_key)

    def replace(self, verifier_key: str, expected: Remembered | None, new: Remembered) -> bool:
        with self._locked():
            contents = self._read()
            replaced = _replace(contents, verifier_key, expected, new)
            if replaced:
                self._write(contents)
            return replaced

    def pinned_key(self, endpoints: Sequence[str], ledger: str) -> str | None:
        return _pinned_key(self._read(), endpoints, ledger)

    def pin(self, endpoints: Sequence[str], ledger: str, verifier_key: str) -> None:
        with self._locked():
            contents = self._read()
            _pin(contents, endpoints, ledger, verifier_key)
            self._write(contents)

    def forget(self, endpoints: Sequence[str], ledger: str, verifier_key: str | None) -> bool:
        with self._locked():
            contents = self._read()
            forgotten = _forget(contents, endpoints, ledger, verifier_key)
            if forgotten:
                self._write(contents)
            return forgotten

    def _read(self) -> _Contents:
        try:
            with self.path.open("rb") as file:
                data = file.read(MEMORY_SIZE_BYTES_MAX + 1)
        except FileNotFoundError:
            return _Contents()
        except OSError as error:
            raise MemoryDamaged(f"cannot read remembered checkpoints: {error}") from error
        try:
            if len(data) > MEMORY_SIZE_BYTES_MAX:
                raise ValueError(f"is larger than {MEMORY_SIZE_BYTES_MAX} bytes")
            contents = msgspec.json.decode(data, type=_Contents)
            if contents.format != 1:
                raise ValueError(f"has format {contents.format}, this version reads format 1")
        except ValueError as error:  # msgspec's errors are ValueErrors too
            raise MemoryDamaged(
                f"the remembered checkpoints in {self.path} cannot be read ({error}); restore the file, "
                "or move it away to begin to trust anew"
            ) from error
        return contents

    def _write(self, contents: _Contents) -> None:
        data = msgspec.json.format(msgspec.json.encode(contents), indent=2)
        if len(data) > MEMORY_SIZE_BYTES_MAX:
            raise MemoryDamaged(f"{self.path} would grow beyond {MEMORY_SIZE_BYTES_MAX} bytes")
        try:
            write_whole(self.path, data, mode=0o600)
        except OSError as error:
            raise MemoryDamaged(f"cannot write remembered checkpoints: {error}") from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = self.path.with_name(self.path.name + ".lock").open("ab")
        except OSError as error:
            raise MemoryDamaged(f"cannot lock remembered checkpoints: {error}") from error
        with lock:
            _lock(lock.fileno())  # given back when the file closes
            yield


def _replace(contents: _Contents, verifier_key: str, expected: Remembered | None, new: Remembered) -> bool:
    if contents.checkpoints.get(verifier_key) != expected:
        return False
    _check_room(contents.checkpoints, verifier_key)
    contents.checkpoints[verifier_key] = new
    return True


def _pinned_key(contents: _Contents, endpoints: Sequence[str], ledger: str) -> str | None:
    for endpoint in endpoints:
        pinned = contents.pins.get(f"{endpoint} {ledger}")
        if pinned is not None:
            return pinned
    return None


def _pin(contents: _Contents, endpoints: Sequence[str], ledger: str, verifier_key: str) -> None:
    for endpoint in endpoints:
        _check_room(contents.pins, f"{endpoint} {ledger}")
        contents.pins[f"{endpoint} {ledger}"] = verifier_key


def _forget(contents: _Contents, endpoints: Sequence[str], ledger: str, verifier_key: str | None) -> bool:
    pins = [contents.pins.pop(f"{endpoint} {ledger}", None) for endpoint in endpoints]
    keys = {key for key in [*pins, verifier_key] if key is not None}
    checkpoints = [contents.checkpoints.pop(key, None) for key in keys]
    return any(pin is not None for pin in pins) or any(note is not None for note in checkpoints)


def _check_room(entries: dict[str, str] | dict[str, Remembered], key: str) -> None:
    if key not in entries and len(entries) >= MEMORY_ENTRIES_MAX:
        raise MemoryDamaged(f"{MEMORY_ENTRIES_MAX} entries are remembered already; forget some")


def _lock(descriptor: int) -> None:
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)


def state_path() -> Path:
    """Where the command line keeps its memory: under $XDG_STATE_HOME (XDG Base Directory 0.8)."""
    base = os.environ.get("XDG_STATE_HOME", "")
    root = Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state"
    return root / "stele" / "checkpoints.json"
