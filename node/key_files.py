"""Private keys on disk: for their owner only, and whole or not at all."""

from __future__ import annotations

from pathlib import Path

from stele.files import write_whole


def write_key_file(path: Path, content: bytes) -> None:
    """Write or replace a file that nobody but its owner may read (mode 0600). Raises OSError."""
    write_whole(path, content, mode=0o600)
