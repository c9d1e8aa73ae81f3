"""A trust policy for the readers of a ledger: https://c2sp.org/tlog-policy."""

from __future__ import annotations

from collections.abc import Mapping


def policy_text(log_key: str, replica_keys: Mapping[str, str], required: int) -> str:
    """The log's verifier key for one ledger, and `required` of these replicas, whose keys go by node id."""
    witnesses = [f"witness {node_id} {key}\n" for node_id, key in replica_keys.items()]
    group = f"group replicas {required} {' '.join(replica_keys)}\n"
    return f"log {log_key}\n{''.join(witnesses)}{group}quorum replicas\n"
