"""What papermill tells while it runs a notebook: kept whole on the disk, said in the log. Loaded in tasks only."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import nbformat
from papermill.engines import NotebookExecutionManager
from papermill.exceptions import PapermillExecutionError
from papermill.execute import raise_for_execution_errors
from typing_extensions import override

from cupola.lab.notebooks.results import NotebookError

if TYPE_CHECKING:
    from cupola.lab.notebooks.results import Result

__all__ = ["Watch"]

SAVE_S = 30
"""A cell that prints for long is saved in between, at most this often."""
LONGEST_LINE = 200


class Watch(NotebookExecutionManager):  # type: ignore[misc] # papermill publishes no types
    """Saves the result whole before and after each cell, and says in the log how far it is.

    Parameters
    ----------
    book, result
        The notebook that runs, and where it is written.
    """

    def __init__(self, book: Any, result: Result) -> None:
        super().__init__(book, output_path=str(result.path), progress_bar=False, autosave_cell_every=SAVE_S)
        self._result = result
        self._cells = [cell for cell in book.cells if cell.cell_type == "code" and cell.source.strip()]
        self._at = 0
        self._failed: Any = None
        self._dead = False

    @override
    def save(self, **_: Any) -> None:
        """Save; a disk that is full just now is no reason to throw away what is being computed."""
        try:
            self._result.write(nbformat.writes(self.nb))  # type: ignore[no-untyped-call]
        except OSError as error:
            print(f"not saved: {error.strerror or error}", file=sys.stderr)  # noqa: T201 - the log of the task
        self.last_save_time = self.now()

    @override
    def cell_start(self, cell: Any, cell_index: int | None = None, **more: Any) -> None:
        """Count the cells that run something."""
        if any(cell is one for one in self._cells):
            self._at += 1
            print(f"cell {self._at} of {len(self._cells)}")  # noqa: T201
        super().cell_start(cell, cell_index, **more)

    @override
    def cell_exception(self, cell: Any, cell_index: int | None = None, **more: Any) -> None:
        """Note which cell failed."""
        self._failed = cell
        super().cell_exception(cell, cell_index, **more)

    def died(self) -> None:
        """Note that the kernel has died in the cell that ran."""
        self._dead = True
        self.cell_exception(self._cells[self._at - 1])

    def tell(self) -> None:
        """Save for the last time, and raise what went wrong.

        Raises
        ------
        NotebookError
            A cell failed, the kernel died, or the result cannot be written.
        """
        error = self._error()
        if error is not None:
            # papermill's own marks, at the top and before the cell; without a path it writes nothing itself.
            with contextlib.suppress(PapermillExecutionError):
                raise_for_execution_errors(self.nb, None)
        try:
            self._result.write(nbformat.writes(self.nb))  # type: ignore[no-untyped-call]
        except OSError as problem:
            raise NotebookError.unwritten(self._result.path, problem) from problem
        if error is not None:
            raise error

    def _error(self) -> NotebookError | None:
        if self._failed is None:
            return None
        where = f"cell {self._at} of {len(self._cells)}"
        line = self._failed.source.strip().splitlines()[0][:LONGEST_LINE]
        alike = f"{where}: {line}"
        kept = f"the notebook as far as it came is {self._result.path}."
        if self._dead:
            return NotebookError(
                f"The kernel died in {where} ({line}), perhaps because it needs more memory than the job has: {kept}",
                alike,
            )
        told = next((one for one in self._failed.outputs if one.output_type == "error"), None)
        name, text = (told.ename, told.evalue) if told else ("An error", "")
        if name == "SystemExit" and text in {"", "0", "None"}:
            return None  # somebody's way to end a notebook early
        return NotebookError(f"{name} in {where} ({line}): {text.rstrip('.') or 'no text'}; {kept}", alike)
