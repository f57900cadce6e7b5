"""Keep functions on a screen and files readable: at most 60 lines a function, 500 a file.

Usage: ``python tools/limits.py [FOLDER ...]``; without folders: src, tests, benchmarks, tools. Decorators count;
docstrings do not, for a long explanation makes no function hard to read. Exit code 1 with one line for each that is too
long.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("src", "tests", "benchmarks", "tools", "docs")
FUNCTION_LINES = 60
FILE_LINES = 500


def too_long(file: Path) -> Iterator[str]:
    """Yield a sentence for everything in `file` that is too long."""
    text = file.read_text(encoding="utf-8")
    lines = text.count("\n")
    if lines > FILE_LINES:
        yield f"{file}: {lines} lines; split it (at most {FILE_LINES})"
    for node in ast.walk(ast.parse(text, str(file))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            length = (node.end_lineno or start) - start + 1 - docstring_lines(node)
            if length > FUNCTION_LINES:
                yield f"{file}:{start}: {node.name} has {length} lines; split it (at most {FUNCTION_LINES})"


def docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines the docstring of a function takes."""
    if ast.get_docstring(node, clean=False) is None:
        return 0
    first = node.body[0]
    return (first.end_lineno or first.lineno) - first.lineno + 1


def python_files(folder: Path) -> list[Path]:
    """Return the Python files of `folder`, without what was installed or generated there."""
    return sorted(
        file for file in folder.rglob("*.py") if not {"node_modules", "_build", "generated"} & set(file.parts)
    )


def main(arguments: list[str]) -> int:
    """Check folders and return the exit code."""
    folders = [Path(argument) for argument in arguments] or [ROOT / name for name in FOLDERS]
    missing = [folder for folder in folders if arguments and not folder.is_dir()]
    found = [f"{folder}: no such folder" for folder in missing]
    found += [line for folder in folders for file in python_files(folder) for line in too_long(file)]
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
