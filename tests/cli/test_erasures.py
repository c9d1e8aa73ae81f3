"""stele erasure, against a node that allows it."""

from __future__ import annotations

import pytest

from stele.cli.erasures import parse_versions
from stele.cli.exits import UsageError
from stele.client import Conflict
from stele.client.errors import Problem, error_of
from tests.cli.conftest import Stele


def test_an_erasure_is_made_watched_and_shown(stele: Stele, ledger: str) -> None:
    for n in range(4):
        assert stele("document", "put", ledger, "t", "who", f'{{"n":{n}}}').code == 0
    done = stele(
        *(
            "erasure",
            "create",
            ledger,
            "t",
            "who",
            "--versions",
            "0,2-3",
            "--reason",
            "asked for",
            "-o",
            "json",
        )
    )
    assert done.code == 0, done.err
    assert done.json["complete"]
    assert done.json["versions"] == [[0, 0], [2, 3]]
    assert [(each["id"], each["complete"]) for each in done.json["replicas"]] == [("n0", True)]
    seq = done.json["seq"]
    assert f"erased: block {seq} of ledger {ledger}" in done.err

    shown = stele("erasure", "show", ledger, seq, "--wait", "-o", "json")
    assert shown.json == done.json
    table = stele("erasure", "show", ledger, seq).out
    assert "asked for" in table
    assert table.splitlines()[-1].startswith("n0  true")
    assert stele("document", "get", ledger, "t", "who").code == 3
    assert stele("document", "get", ledger, "t", "who", "--version", 1).code == 0

    again = stele("erasure", "create", ledger, "t", "who", "--versions", "2", "--reason", "again")
    assert again.code == 4, again.err
    rest = stele(
        "erasure", "create", ledger, "t", "who", "--all", "--reason", "the rest", "--no-wait", "-o", "json"
    )
    assert rest.json["versions"] == [[1, 1]]


def test_what_cannot_be_erased_is_said(stele: Stele, ledger: str) -> None:
    assert stele("erasure", "create", ledger, "t", "who", "--all", "--reason", "x").code == 3
    assert stele("erasure", "create", ledger, "t", "who", "--reason", "x").code == 2
    both = stele("erasure", "create", ledger, "t", "who", "--all", "--versions", "1", "--reason", "x")
    assert both.code == 2
    assert stele("erasure", "create", ledger, "t", "who", "--all").code == 2  # without a reason
    assert stele("erasure", "show", ledger, 0).code == 3  # a block, and no erasure
    problem = Problem(type="urn:stele:problem:erasure-not-allowed", status=403)
    assert isinstance(error_of(problem), Conflict)


@pytest.mark.parametrize("text", ["", "x", "1,", "-3", "3-1", "0-1000", "1.5", "٣"])
def test_versions_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_versions(text)


def test_versions_may_be_ranges() -> None:
    assert parse_versions("0, 3-5,4") == [0, 3, 4, 5]
