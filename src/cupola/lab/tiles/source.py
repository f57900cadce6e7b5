"""The text of notebook cells, so that a traceback in a worker shows the user's own lines.

A chain carries the text of its functions, but the cell that it was in is known only to the kernel.
"""

from __future__ import annotations

import linecache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

    from cupola.lab.chains import Chain

__all__ = ["remember"]


def remember(chain: Chain, error: BaseException) -> None:
    """Make the lines of the chain's functions known where `error` passed through them."""
    sources = {function.name: function.source for function in chain.functions if function.source}
    for code in _codes(error):
        source = sources.get(code.co_name)
        if source is None or Path(code.co_filename).exists():
            continue
        known = linecache.cache.get(code.co_filename)
        lines = list(known[2]) if known is not None and len(known) > 1 else []
        first, text = code.co_firstlineno - 1, source.splitlines(keepends=True)
        lines += ["\n"] * (first + len(text) - len(lines))
        lines[first : first + len(text)] = text
        # No time of change: linecache then never looks for the file.
        linecache.cache[code.co_filename] = (sum(map(len, lines)), None, lines, code.co_filename)


def _codes(error: BaseException) -> Iterator[CodeType]:
    """Yield what ran where `error`, or what it was raised from, passed through."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        trace = current.__traceback__
        while trace is not None:
            yield trace.tb_frame.f_code
            trace = trace.tb_next
        current = current.__cause__ or current.__context__
