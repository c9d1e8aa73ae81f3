"""Money is neither made nor lost: the balances add up the same after every block."""

from __future__ import annotations

from collections.abc import Collection

from chaos.checkers.anomaly import Anomaly
from chaos.checkers.journal import Journal


def check(journal: Journal, accounts: Collection[str], total: int) -> list[Anomaly]:
    """At most one anomaly: the first block after which `accounts`, once all opened, do not hold `total`."""
    balances: dict[str, int] = {}
    for seq, revisions in sorted(journal.blocks.items()):
        for revision in revisions:
            if revision.key in accounts and revision.data is not None:
                balances[revision.key] = int(str(revision.data["balance"]))
        found = sum(balances.values())
        if len(balances) == len(accounts) and found != total:
            return [Anomaly("money is neither made nor lost", f"{found}, not {total}, after block {seq}")]
    return []
