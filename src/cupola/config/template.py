"""The commented ``cupola.yaml`` that ``cupola init`` writes: made from the fields, so that it is never out of date.

Prose starts with ``# `` and settings with ``#`` and no space: taking away the ``#`` of a line switches it on.
"""

from __future__ import annotations

import textwrap
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import yaml

from cupola.config.fields import Setting, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["template"]

_WIDTH = 100
_HEAD = """\
# The configuration of Cupola. What is commented out shows the default, or an example where the default is found
# out on this machine. Take away the "#" in front of a setting to change it; `cupola check` says whether all is well.
"""


def template() -> str:
    """Return the text of a new ``cupola.yaml``; read as it is, it gives the defaults."""
    return _HEAD + "\n".join(_lines(settings(), 0)) + "\n"


def _lines(entries: list[Setting], depth: int) -> Iterator[str]:
    """Yield the lines of a group of settings."""
    margin = "  " * depth
    for entry in entries:
        yield ""
        yield from _prose(f"{entry.title}. {entry.description}", margin)
        if entry.below and entry.several:
            yield f"{margin}#{entry.name}:"
            yield from _example_entry(entry.below, margin + "#  ")
        elif entry.below:
            yield f"{margin}{entry.name}:"
            yield from _lines(entry.below, depth + 1)
        else:
            if entry.default_text:
                yield from _prose(f"Default: {entry.default_text}.", margin)
            value = entry.example if entry.default is None else entry.default
            yield f"{margin}#{entry.name}: {_value(value)}"


def _example_entry(entries: list[Setting], margin: str) -> Iterator[str]:
    """Yield one example entry of a list, with all it can hold."""
    dash = "- "
    for entry in entries:
        if entry.below:
            # One of several, of which the entry may have one: stays prose.
            inside = ", ".join(
                f"{part.name}: {_value(part.example)}" for part in entry.below if part.required
            )
            yield f"{margin}  # instead of another place: {entry.name}: {{{inside}}}"
            continue
        need = "needed" if entry.required else "may be left out"
        yield f"{margin}{dash}{entry.name}: {_value(entry.example)}  # {entry.title.lower()}; {need}"
        dash = "  "


def _prose(text: str, margin: str) -> Iterator[str]:
    for line in textwrap.wrap(text, _WIDTH - len(margin), break_on_hyphens=False):
        yield f"{margin}# {line}"


def _value(value: Any) -> str:
    """Return `value` as YAML writes it on one line."""
    plain = value.value if isinstance(value, StrEnum) else value
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
