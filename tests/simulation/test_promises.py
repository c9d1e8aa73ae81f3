"""Leader completeness as the simulation checks it: a leader has what was committed in earlier terms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from chaos.simulation.promises import Promises
from chaos.simulation.violation import Violation
from consensus import record
from consensus.record import Kind


class NoEvidence:
    """Whatever is looked up on disks is all right."""

    def check_elected(self, core: object) -> None: ...
    def check_leader(self, core: object) -> None: ...
    def check_safe(self, index: int, term: int) -> None: ...


@dataclass
class Log:
    terms: list[int]
    first_index: int = 1

    @property
    def last_index(self) -> int:
        return len(self.terms)

    def term_at(self, index: int) -> int:
        return self.terms[index - 1]

    def records(self, first: int, *, last: int, **bounds: int) -> list[bytes]:
        return [
            record.encode(index, self.term_at(index), Kind.NO_OP, b"") for index in range(first, last + 1)
        ]


@dataclass
class Core:
    node_id: str
    term: int
    log: Log
    commit_index: int = 0
    leads: bool = field(default=True)


def check(promises: Promises, core: Core) -> None:
    promises.check(cast(Any, core))


def committed_in_term_4() -> Promises:
    promises = Promises(cast(Any, NoEvidence()))
    check(promises, Core("n3", 4, Log([1, 2, 4]), commit_index=3))
    return promises


def test_the_last_votes_of_an_old_term_may_come_late() -> None:
    check(committed_in_term_4(), Core("n1", 3, Log([1, 2])))


def test_a_later_leader_that_lacks_what_was_committed_is_found() -> None:
    with pytest.raises(Violation, match="3 were committed before"):
        check(committed_in_term_4(), Core("n1", 5, Log([1, 2])))


def test_a_later_leader_with_another_entry_is_found() -> None:
    with pytest.raises(Violation, match="another entry 3"):
        check(committed_in_term_4(), Core("n1", 5, Log([1, 2, 3])))
