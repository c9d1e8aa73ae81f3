"""Nothing of one machine gets into the repository, and the lock pins all there is."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.house.tree import ROOT, relative, repository_files

# Written so that this file does not match itself.
MACHINE_PATH = re.compile(r"(?<![\w.<{])/(work|root|home|opt)/[\w.-]")
INDEX_ADDRESS = re.compile(
    r"(?<![\w-])--(extra-)?index-url|(?<![\w-])--find-link[s]|//[\w.]*py[p]i\.org/simple"
)
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")
TEXT = (".py", ".toml", ".md", ".lock", ".yml", ".yaml", ".json", ".cfg", ".ini", ".sh", ".service", "")


def project(path: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / path).read_text(encoding="utf-8"))


def test_no_machine_path_and_no_index_address() -> None:
    found: list[str] = []
    for path in repository_files(*TEXT):
        text = path.read_text(encoding="utf-8")
        found += [f"{relative(path)}: {match[0]}" for match in MACHINE_PATH.finditer(text)]
        found += [f"{relative(path)}: {match[0]}" for match in INDEX_ADDRESS.finditer(text)]
    assert found == []


def test_the_patterns_find_what_they_look_for() -> None:
    assert MACHINE_PATH.search("open('/" + "root/secret')")
    assert INDEX_ADDRESS.search("pip install -" + "-index-url x")
    assert not INDEX_ADDRESS.search("uv --no-emit-index-url")


def test_lock_pins_every_package_with_a_hash() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [number for number, line in enumerate(lines) if line and line[0] not in " #"]
    assert len(pins) > 40
    for number in pins:
        assert re.match(r"^[A-Za-z0-9._-]+==[^ ]+( ; .+)? \\$", lines[number]), lines[number]
        assert HASH.match(lines[number + 1]), lines[number + 1]
    assert "://" not in "\n".join(lines)


@pytest.mark.parametrize("manifest", ["pyproject.toml", "sdk/pyproject.toml"])
def test_lock_names_every_declared_dependency(manifest: str) -> None:
    declared = project(manifest)["project"]["dependencies"]
    declared += project(manifest).get("dependency-groups", {}).get("dev", [])
    locked = {
        line.split("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line
    }
    names = {re.split(r"[<>=!;\[ ]", requirement)[0] for requirement in declared} - {"stele-ledger"}
    assert names <= locked


def test_pysyncobj_is_pinned_exactly() -> None:
    assert "pysyncobj==0.3.17" in project("pyproject.toml")["project"]["dependencies"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, because building leaves folders behind."""
    copy = tmp_path_factory.mktemp("source")
    for path in repository_files():
        target = copy / relative(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return copy


def wheel_content(project_folder: Path, into: Path) -> set[str]:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", into, project_folder],
        check=True,
        timeout=110,
    )
    (wheel,) = into.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_server_ships_its_three_packages_and_nothing_else(source: Path, tmp_path: Path) -> None:
    content = wheel_content(source, tmp_path)
    assert {name.split("/")[0] for name in content} == {"node", "consensus", "storage"}
    assert {"node/py.typed", "consensus/py.typed", "storage/py.typed", "node/main.py"} <= content


def test_the_sdk_ships_one_package(source: Path, tmp_path: Path) -> None:
    content = wheel_content(source / "sdk", tmp_path)
    assert {name.split("/")[0] for name in content} == {"stele"}
    assert "stele/py.typed" in content
    assert {name.split("/")[1] for name in content if name.count("/") > 1} == {
        "format",
        "verify",
        "client",
        "audit",
        "witness",
        "cli",
    }
