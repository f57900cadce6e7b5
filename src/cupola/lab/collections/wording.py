"""Small parts of the sentences that errors are made of."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["capital", "near"]

_SHOWN = 12
"""Most names in a sentence."""


def capital(text: object) -> str:
    """Return the text of `text` as the start of a sentence."""
    words = str(text)
    return words[:1].upper() + words[1:]


def near(name: str, names: Iterable[str], listed: Iterable[str] | None = None) -> str:
    """Return the end of an error's sentence: what was probably meant of `names`, or what there is (`listed` of it)."""
    folded: dict[str, str] = {}
    for text in names:
        folded.setdefault(text.casefold(), text)
    close = [folded[text] for text in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.6)]
    if close:
        return f"; did you mean {' or '.join(close)}?"
    known = list(folded.values() if listed is None else listed)
    if not known:
        return "."
    return f"; there are {', '.join(known[:_SHOWN])}{', ...' if len(known) > _SHOWN else '.'}"
