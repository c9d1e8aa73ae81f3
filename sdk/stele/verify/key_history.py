"""Which keys speak for a cluster, replayed from the signed statements in its journal.

A statement (`stele.format.key_statement` has its text) counts only under these rules:

- the first one sets the log's key, and that key signs it; every later one is signed by the log's present key;
- a new key of the log or of a replica signs the statement that sets it;
- a replica's present key signs the statement that replaces it; one that is lost is retired instead, which the
  log's key does alone, and everybody can see that it did;
- a key that stood here once never comes back, so that no old statement can be played again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from stele.verify.errors import InvalidKeyStatement, VerificationError
from stele.verify.note import COSIGNATURE_V1, ED25519, ML_DSA_44, VerifierKey, open_note, split_note

_HEADER: Final = "stele-keys/v1"
_KEYS_PER_STATEMENT_MAX: Final = 2


@dataclass(frozen=True, slots=True)
class KeyStatement:
    """What a statement says, before anybody has checked that it may. `node_id` is None for the log."""

    action: Literal["set", "retire"]
    node_id: str | None
    keys: tuple[VerifierKey, ...]

    @classmethod
    def parse(cls, text: str) -> KeyStatement:
        """Read the text of a statement; raise InvalidKeyStatement."""
        lines = text.split("\n")
        if len(lines) < 4 or lines[0] != _HEADER or lines[-1] != "":
            raise InvalidKeyStatement("a statement is a header, a line that says what, and keys")
        if len(lines) - 3 > _KEYS_PER_STATEMENT_MAX:
            raise InvalidKeyStatement("keys of a statement", expected=_KEYS_PER_STATEMENT_MAX)
        try:
            keys = tuple(VerifierKey.parse(line) for line in lines[2:-1])
        except VerificationError as error:
            raise InvalidKeyStatement(str(error)) from None
        match lines[1].split(" "):
            case ["set", "log"]:
                return cls("set", None, keys)
            case ["set", "replica", node_id] if node_id:
                return cls("set", node_id, keys)
            case ["retire", "replica", node_id] if node_id:
                return cls("retire", node_id, keys)
        raise InvalidKeyStatement(f"{lines[1][:96]!r} is nothing that a statement can say")


class KeyHistory:
    """The keys of one cluster as its statements have made them.

    `log` is the log's present key, under the name of the ledger that holds the statements. `replicas` has the
    present keys of each replica that has some, by node id, the one of type 04 first. `former_logs` and
    `retired` are the keys that no longer count.
    """

    def __init__(self, anchor: VerifierKey | None = None) -> None:
        """`anchor` is the key of the log that the first statement must set; None believes that statement."""
        self._anchor = anchor
        self.log: VerifierKey | None = None
        self.former_logs: list[VerifierKey] = []
        self.replicas: dict[str, tuple[VerifierKey, ...]] = {}
        self.retired: list[tuple[str, VerifierKey]] = []
        self._ever: set[bytes] = set()

    def check(self, note: str) -> KeyStatement:
        """What a statement says, if it may be said now. Raises VerificationError."""
        statement = KeyStatement.parse(split_note(note)[0])
        if statement.node_id is None:
            signers = self._check_log(statement)
        elif statement.action == "set":
            signers = self._check_replica(statement.node_id, statement)
        else:
            signers = self._check_retirement(statement.node_id, statement)
        signed = set(open_note(note, signers).signatures_by)
        missing = [key.name for key in signers if key not in signed]
        if missing:
            raise InvalidKeyStatement("a signature is missing", expected=", ".join(missing))
        return statement

    def apply(self, note: str) -> KeyStatement:
        """As `check`, and takes it in."""
        statement = self.check(note)
        if statement.node_id is None:
            if self.log is not None:
                self.former_logs.append(self.log)
            self.log = statement.keys[0]
        else:
            replaced = self.replicas.pop(statement.node_id, ())
            kept = statement.keys if statement.action == "set" else ()
            self.retired += [(statement.node_id, key) for key in replaced if key not in kept]
            if kept:
                self.replicas[statement.node_id] = kept
        self._ever.update(key.public_key for key in statement.keys)
        return statement

    def _check_log(self, statement: KeyStatement) -> list[VerifierKey]:
        """Who must have signed."""
        if [key.algorithm for key in statement.keys] != [ED25519]:
            raise InvalidKeyStatement("the log's key", expected="one of type 01")
        key = statement.keys[0]
        if self.log is None:
            if self._anchor is not None and key != self._anchor:
                raise InvalidKeyStatement("the log's first key", expected=self._anchor, found=key)
            return [key]
        if key.name != self.log.name:
            raise InvalidKeyStatement("name of the log's key", expected=self.log.name, found=key.name)
        self._check_new(statement.keys)
        return [self.log, key]

    def _check_replica(self, node_id: str, statement: KeyStatement) -> list[VerifierKey]:
        if [key.algorithm for key in statement.keys] not in ([COSIGNATURE_V1], [COSIGNATURE_V1, ML_DSA_44]):
            raise InvalidKeyStatement(
                "a replica's keys", expected="one of type 04, then at most one of type 06"
            )
        log = self._present_log()
        for key in statement.keys:
            name = f"{log.name.rpartition('/')[0]}/{node_id}"
            if key.name != name:
                raise InvalidKeyStatement("name of a replica's key", expected=name, found=key.name)
        present = self.replicas.get(node_id, ())
        if present == statement.keys:
            raise InvalidKeyStatement(f"replica {node_id} has these keys already")
        self._check_new([key for key in statement.keys if key not in present])
        signing = [_plain(present[0])] if present else []
        # A statement may keep the key of type 04 and change only the other one.
        return [log, *dict.fromkeys([*signing, _plain(statement.keys[0])])]

    def _check_retirement(self, node_id: str, statement: KeyStatement) -> list[VerifierKey]:
        present = self.replicas.get(node_id)
        if present != statement.keys:
            raise InvalidKeyStatement(f"replica {node_id} does not have these keys")
        return [self._present_log()]

    def _present_log(self) -> VerifierKey:
        if self.log is None:
            raise InvalidKeyStatement("the first statement sets the log's key")
        return self.log

    def _check_new(self, keys: Sequence[VerifierKey]) -> None:
        for key in keys:
            if key.public_key in self._ever:
                raise InvalidKeyStatement(f"{key.name} with id {key.key_id.hex()} stood here before")


def _plain(key: VerifierKey) -> VerifierKey:
    """The same Ed25519 key for plain signatures: what a cosigner signs that is no checkpoint."""
    return VerifierKey(key.name, ED25519, key.public_key)
