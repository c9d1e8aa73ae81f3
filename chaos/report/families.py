"""Kinds of faults by what they break, for the colors of a report."""

from __future__ import annotations

from typing import Literal

Family = Literal["processes", "network", "disks", "clocks", "operations"]

# In this order: a loss of power is no loss of packets.
_WORDS: dict[Family, tuple[str, ...]] = {
    "operations": ("member", "transfer", "certificate", "upgrade", "rolling", "restart", "backup"),
    "disks": (
        "disk", "enospc", "eio", "fsync", "space", "power", "torn", "flip", "rot", "wiped", "write error",
    ),
    "network": (
        "isolate", "one way", "cut off", "split", "bridge", "ring", "loss", "delay", "duplicat", "reorder",
        "bandwidth", "jitter", "partition", "slow link",
    ),
    "clocks": ("clock", "skew"),
}  # fmt: skip


def family(kind: str) -> Family:
    """What is not of network, disks, clocks or an operator's doing happens to processes."""
    word = kind.lower()
    for name, words in _WORDS.items():
        if any(each in word for each in words):
            return name
    return "processes"
