"""What fsck found, and how it names a place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

FINDINGS_MAX = 1_000

Progress = Callable[[str, int, int], None]
"""Called with (what is being checked, how much is done, how much there is)."""


class Finding(NamedTuple):
    """One thing that is wrong: `where` names the ledger and the row, `what` says what and at which byte."""

    where: str
    what: str


@dataclass
class FsckReport:
    """The result of a check. It is clean when `findings` is empty.

    At most `FINDINGS_MAX` findings are kept; `findings_total` counts them all.
    """

    findings: list[Finding] = field(default_factory=list)
    findings_total: int = 0
    ledgers: int = 0
    blocks: int = 0
    revisions: int = 0
    tiles: int = 0
    rows: int = 0
    roots: dict[str, str] = field(default_factory=dict)

    def add(self, where: str, what: str) -> None:
        self.findings_total += 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(where, what))

    def compare(self, where: str, stored: bytes | None, expected: bytes) -> None:
        """Adds a finding that names the first byte in which a stored row differs from the right one."""
        if stored is None:
            self.add(where, "the row is missing")
        elif stored != expected:
            self.add(where, f"byte {first_difference(stored, expected)} of {len(stored)} is wrong")


def first_difference(stored: bytes, expected: bytes) -> int:
    """The offset of the first byte in which two unequal strings differ."""
    for offset, (a, b) in enumerate(zip(stored, expected, strict=False)):
        if a != b:
            return offset
    return min(len(stored), len(expected))
