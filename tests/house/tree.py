"""What lies in the repository: the files the rules of the house are checked on."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Made by tools or by running; never committed (see .gitignore).
_MADE = {".git", ".venv", "var", "build", "dist", "__pycache__", "node_modules", "results"}


def repository_files(*suffixes: str) -> list[Path]:
    """Every file of the working tree with one of these suffixes (all files when none is given)."""
    found: list[Path] = []
    folders = [ROOT]
    while folders:
        for entry in sorted(folders.pop().iterdir()):
            if entry.is_dir():
                if not (entry.name in _MADE or entry.name.endswith(("_cache", ".egg-info", ".hypothesis"))):
                    folders.append(entry)
            elif not suffixes or entry.suffix in suffixes:
                found.append(entry)
    return found


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()
