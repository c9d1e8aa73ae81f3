"""stele policy …"""

from __future__ import annotations

from cyclopts import App

from stele.cli.connection import CONNECTION, Connection
from stele.cli.exits import UsageError, complain
from stele.cli.journal import File, destination
from stele.client.trust import parse_key
from stele.verify.policy import Group, TrustPolicy, Witness

policy_app = App(name="policy", help="Trust policies: whose signatures a checkpoint must bear.")


@policy_app.command(name="make")
def make_policy(
    ledger: str, /, *, required: int | None = None, file: File = None, connection: Connection = CONNECTION
) -> None:
    """Write a trust policy (C2SP tlog-policy) with the keys that the cluster states.

    It says what the servers say of themselves: compare it with what the operators of the replicas publish.

    Parameters
    ----------
    required
        How many replicas must have cosigned; by default a majority.
    file
        Where to: complete or not at all. By default standard output.
    """
    with connection.open() as client:
        log = parse_key(client.ledger(ledger).info().verifier_key)
        replicas = [each for each in client.keys().replicas if each.state == "active"]
    # The first key of a replica is its Ed25519 one; one vote a replica is enough.
    witnesses = {each.node: Witness(parse_key(each.verifier_keys[0])) for each in replicas}
    majority = len(witnesses) // 2 + 1
    votes = majority if required is None else required
    if not 1 <= votes <= len(witnesses):
        raise UsageError(f"--required lies between 1 and {len(witnesses)}, the number of replicas with a key")
    group = Group(votes, tuple(witnesses))
    policy = TrustPolicy((log,), witnesses, {"replicas": group}, "replicas")
    with destination(file) as out:
        out.write(str(policy).encode())
    complain("these keys are what the cluster says of itself; compare them with what its operators publish")
