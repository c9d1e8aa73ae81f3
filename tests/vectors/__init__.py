"""Known answers from other projects; origins and licences stand in data/README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_DATA = Path(__file__).parent / "data"


def load(name: str) -> Any:
    """The content of one vector file."""
    return json.loads((_DATA / f"{name}.json").read_text(encoding="utf-8"))
