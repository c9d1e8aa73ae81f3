"""Seals in an exported journal: every state root is recomputed, and no other is accepted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stele.verify.errors import Malformed, Mismatch, VerificationError
from stele.verify.export import verify_export
from tests.verify.journal import VERIFIER, Journal, Members, Write, sample, to_line


def sealed() -> Journal:
    """Every kind of block, sealed in between and at the end."""
    journal = sample()
    journal.seal()
    people = next(table for table, _ in journal.newest if table.startswith("people@"))
    journal.append([Write(people, "person-1", None), Write(people, "person-9", {})])
    journal.seal()
    return journal


def test_every_state_root_is_recomputed() -> None:
    journal = sealed()
    report = verify_export(journal.export(), VERIFIER)
    assert (report.seals, report.state_checked) == (2, True)
    assert report.state_root is not None
    assert report.state_root.hex() == journal.blocks[-1]["header"]["state_root"]


def test_a_signed_journal_with_another_state_root_is_refused() -> None:
    """The log key signed it, and yet the map does not follow from the revisions."""
    journal = sealed()
    journal.append([Write("$tables@0", "more", {})])
    journal.seal(state_root=bytes(32))
    lines = journal.export()
    with pytest.raises(Mismatch, match="state root"):
        verify_export(lines, VERIFIER)
    # Without the whole journal's keys nothing can be recomputed, and the report says so.
    report = verify_export(lines, VERIFIER, history=False)
    assert (report.seals, report.state_checked) == (3, False)


def test_a_seal_of_the_state_before_the_last_revision_is_refused() -> None:
    journal = sealed()
    before = bytes.fromhex(journal.blocks[-1]["header"]["state_root"])
    journal.append([Write("$tables@0", "more", {})])
    journal.seal(state_root=before)
    with pytest.raises(Mismatch, match="state root"):
        verify_export(journal.export(), VERIFIER)


def test_a_part_of_a_journal_shows_its_seals_unchecked() -> None:
    journal = sealed()
    report = verify_export(journal.export(3), None)
    assert (report.seals, report.state_checked) == (2, False)


CHANGES: dict[str, Callable[[Members], object]] = {
    "no state root": lambda header: header.pop("state_root"),
    "null": lambda header: header.update(state_root=None),
    "capitals": lambda header: header.update(state_root=header["state_root"].upper()),
    "short": lambda header: header.update(state_root="00"),
    "a transaction with a state root": lambda header: header.update(kind="tx"),
    "revisions": lambda header: header.update(revision_count=1),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("history", [True, False])
def test_seals_of_another_form_are_refused(change: Callable[[Members], object], history: bool) -> None:
    journal = sealed()
    change(journal.blocks[-1]["header"])
    lines = [to_line(journal.start()), *map(to_line, journal.blocks)]
    with pytest.raises((Malformed, Mismatch)):
        verify_export(lines, None, history=history)


def test_a_state_root_that_is_off_by_a_bit_is_refused() -> None:
    journal = sealed()
    header = journal.blocks[-1]["header"]
    header["state_root"] = f"{int(header['state_root'], 16) ^ 1:064x}"
    with pytest.raises(VerificationError):
        verify_export([to_line(journal.start()), *map(to_line, journal.blocks)], None)
