"""Files and functions stay short enough to be read in one go (DESIGN section 1)."""

import ast
from pathlib import Path

import pytest

from tests.house.tree import relative, repository_files

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50


def long_functions(source: str) -> list[tuple[str, int]]:
    """Name and length of every function over the limit; decorators and docstring count."""
    found: list[tuple[str, int]] = []
    for part in ast.walk(ast.parse(source)):
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([part.lineno, *(decorator.lineno for decorator in part.decorator_list)])
            lines = (part.end_lineno or part.lineno) - first + 1
            if lines > FUNCTION_LINES_MAX:
                found.append((part.name, lines))
    return found


@pytest.mark.parametrize("path", repository_files(".py"), ids=relative)
def test_file_and_functions_are_short(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    lines = len(source.splitlines())
    assert lines <= FILE_LINES_MAX, (
        f"{relative(path)} has {lines} lines, at most {FILE_LINES_MAX} are allowed"
    )
    assert long_functions(source) == []


def test_a_long_function_is_found() -> None:
    body = "\n".join(f"    x = {i}" for i in range(FUNCTION_LINES_MAX))
    assert long_functions(f"def f():\n{body}\n") == [("f", FUNCTION_LINES_MAX + 1)]
    assert long_functions("async def g():\n    pass\n") == []


@pytest.mark.parametrize(
    "path", [p for p in repository_files(".py") if not relative(p).startswith("tests/")], ids=relative
)
def test_modules_are_named_for_what_they_hold(path: Path) -> None:
    assert path.stem not in {"utils", "util", "helpers", "helper", "manager", "common", "misc"}
