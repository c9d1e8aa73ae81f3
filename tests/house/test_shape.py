"""Files and functions stay short enough to be read in one go (DESIGN section 1)."""

import ast

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


def test_files_and_functions_are_short() -> None:
    long: list[str] = []
    for path in repository_files(".py"):
        source = path.read_text(encoding="utf-8")
        lines = len(source.splitlines())
        if lines > FILE_LINES_MAX:
            long.append(f"{relative(path)} has {lines} lines, at most {FILE_LINES_MAX} are allowed")
        long += [f"{relative(path)}: {name} has {lines} lines" for name, lines in long_functions(source)]
    assert long == []


def test_a_long_function_is_found() -> None:
    body = "\n".join(f"    x = {i}" for i in range(FUNCTION_LINES_MAX))
    assert long_functions(f"def f():\n{body}\n") == [("f", FUNCTION_LINES_MAX + 1)]
    assert long_functions("async def g():\n    pass\n") == []


def test_modules_are_named_for_what_they_hold() -> None:
    hollow = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}
    assert [relative(path) for path in repository_files(".py") if path.stem in hollow] == []
