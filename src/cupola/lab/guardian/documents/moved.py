"""Notebooks that were moved where no server saw it, by a terminal or a file manager outside: found again by their cells' ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cupola.lab.guardian.journal.execution import DELETED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cupola.lab.guardian.journal.ledger import Ledger

__all__ = ["place_before"]


def place_before(
    path: str, notebook: Any, changed: float, ledgers: Iterable[Ledger], is_there: Callable[[str], bool]
) -> str:
    """Return where a notebook was when its kernel was asked for something last; empty where it was not moved.

    Parameters
    ----------
    path
        Where it is now.
    notebook
        What it holds.
    changed
        When the file was written or moved last, in seconds: one that lay there before is a copy, not the one that is gone.
    ledgers
        Of all kernels.
    is_there
        Says whether there is a file at a path.
    """
    ledgers = list(ledgers)
    if any(path in ledger.paths() for ledger in ledgers):
        return ""
    ids = {cell["id"] for cell in notebook["cells"] if cell.get("id")}
    found: dict[str, float] = {}
    for ledger in ledgers:
        for other in ledger.paths():
            known = [one for one in ledger.of(other) if one.settled != DELETED]
            asked = max((one.asked for one in known), default=changed + 1)
            # Most of them, since cells may have been added and deleted since, and copied into other notebooks.
            if sum(one.cell in ids for one in known) * 2 > len(known) and asked <= changed:
                found[other] = max(asked, found.get(other, 0.0))
    for other in sorted(found, key=lambda one: found[one], reverse=True):
        if not is_there(other):
            return other
    return ""
