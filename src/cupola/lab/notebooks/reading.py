"""Read a notebook and find out what can be changed in it: the names in its cell with the tag ``parameters``."""

from __future__ import annotations

import ast
import json
import logging
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cupola.exceptions import InputError, NotFoundError

__all__ = ["Notebook", "Parameter", "plain", "said_in_words"]

TAG = "parameters"
_DEEPEST = 20


@dataclass(frozen=True)
class Parameter:
    """A name that the notebook lets one change."""

    name: str
    default: str
    """As it is written in the cell."""
    help: str = ""
    """The comment behind it."""


@dataclass(frozen=True)
class Notebook:
    """A notebook as it was when it was read."""

    path: Path
    text: str
    """As JSON, without the outputs: a job makes its own."""
    language: str
    kernel: str | None
    """The kernel it asks for; nothing for Python, which is always the session's own."""
    parameters: tuple[Parameter, ...] | None
    """Nothing where no cell has the tag, or nobody can tell for the language."""
    tagged: bool
    code: tuple[str, ...]
    """Of the cells, for provenance."""

    @classmethod
    def read(cls, path: Path) -> Notebook:
        """Read a notebook.

        Parameters
        ----------
        path
            Of the file.

        Raises
        ------
        NotFoundError
            There is no such file.
        InputError
            It is no notebook.
        """
        book = _load(path)
        language, kernel = _language(book)
        cell = next((one for one in book.cells if _is_tagged(one)), None)
        for one in book.cells:
            if one.cell_type == "code":
                one.outputs, one.execution_count = [], None
        return cls(
            path=path,
            text=json.dumps(book, ensure_ascii=False),
            language=language,
            kernel=kernel,
            parameters=None if cell is None else _parameters(cell, book, language, kernel),
            tagged=cell is not None,
            code=tuple(one.source for one in book.cells if one.cell_type == "code"),
        )

    def check(self, parameters: dict[str, Any]) -> None:
        """Refuse names that the notebook does not know.

        Raises
        ------
        InputError
            One of them is no parameter.
        """
        if self.parameters is None:
            return
        known = [one.name for one in self.parameters]
        for name in parameters:
            if name not in known:
                near = get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known) or 'none'}."
                raise InputError(f"The notebook {self.path.name} has no parameter {name!r}: {hint}")


def plain(name: str, value: Any, depth: int = 0) -> Any:
    """Return a value as papermill can write it into a cell: texts, numbers, lists and dicts of them.

    Parameters
    ----------
    name, value
        Of the parameter.
    depth
        How deep in it we are.

    Raises
    ------
    InputError
        It is something else, which papermill would turn into a text without a word.
    """
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()  # a number of NumPy's
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Path):
        return str(value)
    if depth < _DEEPEST:
        if isinstance(value, list | tuple):
            return [plain(name, one, depth + 1) for one in value]
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {key: plain(name, one, depth + 1) for key, one in value.items()}
    raise InputError(
        f"The parameter {name!r} has a {type(value).__qualname__}, which cannot be written into a cell: "
        "give a text, a number, true or false, nothing, a list, or a dict with texts as keys."
    )


def said_in_words(name: str, text: str, default: str) -> Any:
    """Return the value that somebody has typed into a form.

    A text needs no quotes where the default is one.

    Parameters
    ----------
    name, text
        Of the parameter, and what was typed.
    default
        As it is written in the notebook.

    Raises
    ------
    InputError
        It is no value.
    """
    text = text.strip()
    try:
        return plain(name, ast.literal_eval(text))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        try:
            was_text = isinstance(ast.literal_eval(default.strip()), str)
        except (ValueError, SyntaxError):
            was_text = False
        if was_text and text[:1] not in {"'", '"'}:
            return text
        raise InputError(
            f"The parameter {name!r} cannot be {text!r}: write a value as in Python, such as 3, 0.5, 'text' or [1, 2]."
        ) from None


def _load(path: Path) -> Any:
    import nbformat

    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise NotFoundError(f"There is no notebook {path}: give the path of an .ipynb file.") from None
    except UnicodeDecodeError:
        text = ""
    except OSError as error:
        raise InputError(f"The notebook {path} cannot be read: {error.strerror}.") from None
    try:
        book = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
        nbformat.validate(book)
    except Exception:  # noqa: BLE001 - nbformat raises whatever it stumbles over
        raise InputError(
            f"{path} is no notebook: give the path of an .ipynb file that Jupyter opens."
        ) from None
    return book


def _language(book: Any) -> tuple[str, str | None]:
    """Return the language of a notebook, and the kernel where it is not Python's."""
    kernel = book.metadata.get("kernelspec", {})
    language = book.metadata.get("language_info", {}).get("name") or kernel.get("language") or "python"
    if language.lower() in {"python", "ipython"}:
        return "python", None
    return language, kernel.get("name") or language.lower()


def _is_tagged(cell: Any) -> bool:
    return cell.cell_type == "code" and TAG in cell.metadata.get("tags", [])


def _parameters(cell: Any, book: Any, language: str, kernel: str | None) -> tuple[Parameter, ...] | None:
    if kernel is not None:
        return _told_by_papermill(book, language, kernel)
    try:
        # Magics are no Python: something of Python's stands in for them.
        return _assigned(re.sub(r"^[%!].*$", "pass", cell.source, flags=re.MULTILINE))
    except SyntaxError:
        return None


def _assigned(source: str) -> tuple[Parameter, ...]:
    """Return the names that a cell of Python binds, with the text of their values.

    papermill reads lines, and passes over one with two signs of equality (``crs = "a=b"``, ``x = dict(a=1)``).
    """
    found = {}
    lines = source.splitlines()
    for statement in ast.parse(source).body:
        match statement:
            case ast.Assign(targets=targets, value=value):
                names = [target.id for target in targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                names = [name]
            case _:
                continue
        default = ast.get_source_segment(source, value) or ""
        behind = (
            lines[(statement.end_lineno or 1) - 1].encode()[statement.end_col_offset or 0 :].decode().strip()
        )
        help_ = behind.removeprefix("#").strip() if behind.startswith("#") else ""
        found.update({name: Parameter(name, default, help_) for name in names})
    return tuple(found.values())


def _told_by_papermill(book: Any, language: str, kernel: str) -> tuple[Parameter, ...] | None:
    import nbformat

    try:
        from papermill import inspect_notebook
        from papermill.exceptions import PapermillException
    except ImportError:
        return None
    logging.getLogger("papermill").setLevel(logging.ERROR)
    asked = nbformat.from_dict(book)  # type: ignore[no-untyped-call]
    asked.metadata["kernelspec"] = {"name": kernel, "display_name": language, "language": language}
    asked.metadata["language_info"] = {"name": language}
    try:
        told = inspect_notebook(asked)
    except PapermillException:
        return None  # a language it does not know
    return tuple(Parameter(name, one["default"], one["help"]) for name, one in told.items()) or None
