"""What the documents name exists: links, files, make targets."""

import re
from pathlib import Path

import pytest

from tests.house.tree import ROOT, relative, repository_files

DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)(#[^)]*)?\)")
NAMED_FILE = re.compile(r"`((?:sdk|storage|consensus|node|bench|tests|deploy|docs)/[\w./-]*\w\.\w+)`")
TARGET = re.compile(r"`make ([a-z-]+)")


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_links_lead_somewhere(path: Path) -> None:
    missing = [
        match[1] for match in LINK.finditer(path.read_text("utf-8")) if not (path.parent / match[1]).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_named_files_exist(path: Path) -> None:
    named = {match[1] for match in NAMED_FILE.finditer(path.read_text("utf-8"))}
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_named_make_targets_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert {match[1] for match in TARGET.finditer(path.read_text("utf-8"))} <= targets


def test_readme_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert "make run" in text
    assert "make test" in text


def test_every_document_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path not in reached and path.suffix == ".md":
            reached.add(path)
            links = LINK.finditer(path.read_text("utf-8"))
            waiting += [(path.parent / match[1]).resolve() for match in links]
    assert [
        relative(path) for path in repository_files(".md") if path not in reached and "docs" in path.parts
    ] == []
