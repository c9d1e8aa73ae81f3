"""Private keys on disk: for their owner only, and whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_key_file(path: Path, content: bytes) -> None:
    """Write or replace a file that nobody but its owner may read (mode 0600). Raises OSError."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    # O_EXCL: never into a file that somebody else has made, and perhaps holds open.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
