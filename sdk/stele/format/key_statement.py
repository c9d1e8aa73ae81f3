"""Statements about the keys of a cluster, which its journal keeps: who signs checkpoints, from when on.

A statement is a C2SP signed note. Its text is three lines or more:

    stele-keys/v1
    set log | set replica <node id> | retire replica <node id>
    <verifier key>, one a line

The second line holds a space, so that no statement is the text of a checkpoint, whose second line is a
number. Signatures are plain note signatures (type 01). Who has to sign what is
`stele.verify.key_history`, which shares no code with this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

KEY_STATEMENT_HEADER: Final = "stele-keys/v1"


def set_log_text(verifier_key: str) -> str:
    """From here on the log signs with this key (type 01)."""
    return f"{KEY_STATEMENT_HEADER}\nset log\n{verifier_key}\n"


def set_replica_text(node_id: str, verifier_keys: Sequence[str]) -> str:
    """From here on this replica cosigns with these keys: one of type 04, and perhaps one of type 06."""
    return "\n".join([KEY_STATEMENT_HEADER, f"set replica {node_id}", *verifier_keys, ""])


def retire_replica_text(node_id: str, verifier_keys: Sequence[str]) -> str:
    """From here on these keys of this replica count for nothing new."""
    return "\n".join([KEY_STATEMENT_HEADER, f"retire replica {node_id}", *verifier_keys, ""])
