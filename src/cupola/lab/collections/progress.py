"""How far a long look has come: for a program as a call, for a person as a bar in the notebook."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Progress"]

_PATIENCE_S = 2.0
"""What takes less is not worth a bar."""
_EVERY_S = 0.2


class Progress:
    """Counts what is done; with it as a context the bar goes away at the end.

    Parameters
    ----------
    what
        What is counted, such as ``files``.
    total
        How many there are; 0 where nobody knows.
    call
        Called with how many are done and how many there are; without it a bar is shown from two seconds on, where
        a person looks on.
    """

    def __init__(self, what: str, total: int, call: Callable[[int, int], object] | None = None) -> None:
        self._what = what
        self._total = total
        self._call = call
        self._done = 0
        self._begun = self._told = time.monotonic()
        self._bar: Any = None
        self._shown: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._shown is not None:
            # A page that is drawn later, such as a dashboard, would look for a bar that is closed.
            self._shown.update({"text/plain": ""}, raw=True)
        if kind is None and self._call is not None:
            self._call(self._done, self._total or self._done)

    def step(self, count: int = 1) -> None:
        """Count what was done."""
        self._done += count
        now = time.monotonic()
        if now - self._told < _EVERY_S:
            return
        self._told = now
        if self._call is not None:
            self._call(self._done, self._total)
        elif now - self._begun > _PATIENCE_S:
            self._show()

    def _show(self) -> None:
        if self._bar is None:
            self._bar = _bar(self._what, self._total)
            if hasattr(self._bar, "container"):
                from IPython.display import display

                self._shown = display(self._bar.container, display_id=True)  # type: ignore[no-untyped-call]
        if self._bar is not None:
            self._bar.update(self._done - self._bar.n)


def _bar(what: str, total: int) -> Any:
    """Return a bar where somebody sees it: in a notebook or a terminal, not in a job or a worker."""
    shell = sys.modules.get("IPython")
    notebook = shell is not None and shell.get_ipython() is not None
    if not notebook and not sys.stderr.isatty():
        return None
    try:
        if notebook:
            from tqdm.notebook import tqdm_notebook as tqdm
        else:
            from tqdm import tqdm
    except ImportError:
        return None
    options = {"display": False} if notebook else {}
    return tqdm(
        total=total or None, unit=f" {what}", desc="Looking through the collection", leave=False, **options
    )
