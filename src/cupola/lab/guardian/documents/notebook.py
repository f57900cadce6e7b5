"""A notebook is brought to what its kernels said, and what a page saved is compared with it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cupola.lab.guardian.journal.execution import DELETED, Execution
from cupola.lab.guardian.journal.fold import same_outputs

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Shown", "cell_of", "merge", "newest", "verdicts"]

WITH_IDS = 5
"""The first minor version of notebooks whose cells have ids."""
RECOVERED = "recovered"


@dataclass(frozen=True)
class Shown:
    """What a cell has to show; made of an `Execution`, which goes on changing.

    Parameters
    ----------
    cell, code, after, asked
        As there.
    count
        Of the execution, once it is over.
    outputs
        Its outputs.
    """

    cell: str
    code: str = ""
    after: str = ""
    asked: float = 0.0
    count: int | None = None
    outputs: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, one: Execution) -> Shown:
        """Return what an execution has put out so far."""
        count = one.count if one.state.over else None
        return cls(one.cell, one.code, one.after, one.asked, count, one.fold.copy())


def newest(executions: Iterable[Execution]) -> list[Execution]:
    """Return the last one of each cell, whatever kernel it was of, in the order in which they were asked for."""
    found: dict[str, Execution] = {}
    for one in sorted(executions, key=lambda one: one.asked):
        found[one.cell] = one
    return sorted(found.values(), key=lambda one: one.asked)


def merge(
    notebook: dict[str, Any], shown: Iterable[Shown], since: float | None = None
) -> list[dict[str, Any]]:
    """Give the cells of a notebook what they have to show; return those that changed.

    Parameters
    ----------
    notebook
        Of nbformat 4, changed in place.
    shown
        At most one for each cell; none for those of which the file holds what counts.
    since
        When somebody else has changed the file last: cells that were run after that and are not there were never saved,
        and are put in. Nothing for none.
    """
    changed = []
    for one in shown:
        cell = cell_of(notebook, one.cell, one.code)
        if cell is None:
            if since is not None and one.asked > since and _has_ids(notebook):
                changed.append(_insert(notebook, one))
        elif cell.get("cell_type") == "code":
            same = same_outputs(cell.get("outputs", []), one.outputs)
            if not same or cell.get("execution_count") != one.count:
                cell["execution_count"] = one.count
                if not same:
                    cell["outputs"] = copy.deepcopy(one.outputs)
                changed.append(cell)
    return changed


def cell_of(notebook: dict[str, Any], name: str, code: str) -> dict[str, Any] | None:
    """Return a cell of a notebook.

    Parameters
    ----------
    notebook
        Whose cells have ids, or are from a time before there were any: JupyterLab makes up others each time.
    name
        The cell's id.
    code
        Finds a cell that has no id, if no other one is like it.
    """
    cells = notebook.get("cells", [])
    if _has_ids(notebook):
        return next((cell for cell in cells if cell.get("id") == name), None)
    alike = [cell for cell in cells if cell.get("cell_type") == "code" and _source(cell) == code]
    return alike[0] if len(alike) == 1 and code else None


def _has_ids(notebook: dict[str, Any]) -> bool:
    return bool(notebook.get("nbformat", 4) == 4 and notebook.get("nbformat_minor", 0) >= WITH_IDS)  # noqa: PLR2004


def _source(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    return "".join(source) if isinstance(source, list) else str(source)


def _insert(notebook: dict[str, Any], one: Shown) -> dict[str, Any]:
    """Put in a cell that was run and never saved, where its page said that it was; else at the end."""
    cell = {
        "cell_type": "code",
        "id": one.cell,
        "metadata": {"cupola": {RECOVERED: True}},
        "source": one.code,
        "execution_count": one.count,
        "outputs": copy.deepcopy(one.outputs),
    }
    cells = notebook["cells"]
    at = next((at for at, other in enumerate(cells) if other.get("id") == one.after), len(cells) - 1)
    cells.insert(at + 1, cell)
    return cell


def verdicts(notebook: dict[str, Any], executions: Iterable[Execution]) -> list[tuple[Execution, str]]:
    """Return which executions a saved notebook settles, and why; an empty reason for one that is not any more.

    Parameters
    ----------
    notebook
        As a page saved it.
    executions
        Of its cells; those that began.
    """
    found = []
    for one in executions:
        reason = _verdict(notebook, one)
        if reason is not None:
            found.append((one, reason))
    return found


def _verdict(notebook: dict[str, Any], one: Execution) -> str | None:
    cell = cell_of(notebook, one.cell, one.code)
    if cell is None:
        # Without ids, a cell that was edited cannot be told from one that was deleted.
        gone = _has_ids(notebook) and one.settled != DELETED
        return DELETED if gone else None
    if one.settled == DELETED:
        return ""  # the deletion was undone
    if one.settled or not one.state.over or cell.get("cell_type") != "code":
        return None
    return _verdict_of(cell.get("outputs", []), cell.get("execution_count"), one)


def _verdict_of(outputs: list[dict[str, Any]], count: int | None, one: Execution) -> str | None:
    # A page has the count only once it has all; still, kernels begin to count anew, and pages may be from before.
    same = same_outputs(outputs, one.fold.outputs) or (one.fold.spills and outputs and not one.late)
    return "saved" if count is not None and count == one.count and same else None
