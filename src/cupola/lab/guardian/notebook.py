"""A notebook is brought to what its kernels said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cupola.lab.guardian.ledger import Execution

__all__ = ["merge"]


def merge(notebook: dict[str, Any], executions: Iterable[Execution]) -> bool:
    """Give the cells of `notebook` the outputs of their newest executions; say whether something changed.

    Parameters
    ----------
    notebook
        Of nbformat 4, changed in place.
    executions
        At most one for each cell; settled ones change nothing.
    """
    newest = {one.cell: one for one in executions if not one.settled}
    changed = False
    for cell in notebook.get("cells", []):
        one = newest.get(cell.get("id", ""))
        if one is None or cell.get("cell_type") != "code":
            continue
        count = one.count if one.state.over else None
        wanted = one.fold.copy()
        if cell.get("outputs") != wanted or cell.get("execution_count") != count:
            cell["outputs"], cell["execution_count"] = wanted, count
            changed = True
    return changed
