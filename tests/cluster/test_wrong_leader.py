"""A leader whose journal is another one stops, not those whom it leads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from node import limits
from tests.cluster.members import LEDGER, Members
from tests.cluster.test_repair import is_voter, repair

WRONG, SOUND = "n1", ("n0", "n2")


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Members]:
    made = Members(tmp_path)
    made.start(*SOUND)
    made.start(WRONG, module="tests.cluster.wrong_node")
    try:
        yield made
    finally:
        made.stop_everything()


def put(members: Members, node_id: str, key: str, text: str) -> int:
    body = json.dumps({"text": text}).encode()
    return members.ask(node_id, "PUT", f"/v1/ledgers/{LEDGER}/tables/cars/documents/{key}", body)[0]


def lead(members: Members, node_id: str) -> None:
    """Hands the leadership to a node, however often it takes."""

    def leads() -> bool:
        leader = members.leader()
        if leader != node_id:
            members.ask(leader, "POST", "/v1/cluster/transfer", json.dumps({"target": node_id}).encode())
        return leader == node_id

    members.until(leads, f"{node_id} leads")


def keys_recorded(members: Members) -> bool:
    status, answer = members.ask(SOUND[0], "GET", "/v1/cluster/keys")
    return status == 200 and len(answer.get("replicas", ())) == len(members.http)


def test_a_wrong_leader_stops_itself_and_the_majority_goes_on(members: Members) -> None:
    members.create(members.leader())
    members.until(lambda: keys_recorded(members), "everybody can cosign")
    lead(members, WRONG)
    assert put(members, WRONG, "car", "it goes astray here") == 201
    members.until(lambda: members.ended(WRONG) is not None, "the wrong leader has stopped")
    assert members.ended(WRONG) == limits.FATAL_EXIT_CODE
    assert "JournalOutvoted" in members.log(WRONG)
    assert f"steled repair {members.root / WRONG} --force" in members.log(WRONG)

    leader = members.leader(*SOUND)
    for number in range(3):
        # A proof waits for a seal, and each seal names the one before: those of the wrong leader, too.
        assert put(members, leader, f"after-{number}", "well") == 201
        path = f"/v1/ledgers/{LEDGER}/tables/cars/documents/after-{number}?proof=true"
        assert members.ask(leader, "GET", path)[0] == 200
    assert [members.ended(each) for each in SOUND] == [None, None]
    status, found = members.ask(leader, "GET", f"/v1/ledgers/{LEDGER}/tables/cars/documents/car")
    assert (status, found["data"]) == (200, {"text": "it goes astray here"})

    assert repair(members, WRONG, "--force").returncode == 0
    members.start(WRONG)
    members.until(lambda: is_voter(members, WRONG), "it is a voter again")
    members.until(lambda: members.caught_up(WRONG, leader), "it has everything again")
    exports = [members.export(each) for each in members.http]
    assert exports[0] == exports[1] == exports[2]
