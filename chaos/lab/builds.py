"""Another build of the product, for upgrades: a checkout of it, or the running one under another version."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from node import __version__

_PACKAGES = ("consensus", "node", "storage", "stele")
_SUFFIX = "+upgrade"


def copied(folder: Path) -> Sequence[Path]:
    """The packages that run here, copied into `folder`."""
    for name in _PACKAGES:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            raise RuntimeError(f"the package {name} cannot be found")
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(found.origin).parent, folder / name, ignore=ignored)
    return [folder]


def another(folder: Path) -> Sequence[Path]:
    """As `copied`, with a version of their own."""
    copied(folder)
    place = folder / "node" / "__init__.py"
    before = place.read_text(encoding="utf-8")
    after = before.replace(f'"{__version__}"', f'"{__version__}{_SUFFIX}"')
    if after == before:
        raise RuntimeError(f"{place} does not say its version")
    place.write_text(after, encoding="utf-8")
    return [folder]


def checkout(folder: Path) -> Sequence[Path]:
    """The packages of a clone of the repository. Raises FileNotFoundError when it is none."""
    if not (folder / "node" / "__init__.py").exists() or not (folder / "sdk" / "stele").exists():
        raise FileNotFoundError(f"{folder} is no checkout of Stele: node/ and sdk/stele/ are missing")
    return [folder.resolve(), folder.resolve() / "sdk"]


def python_path(places: Sequence[Path]) -> str:
    return os.pathsep.join(map(str, places))
