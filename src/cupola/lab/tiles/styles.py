"""How pixels become colours: colormaps by name, and the limits between which values are spread."""

from __future__ import annotations

import difflib
import importlib.util
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.exceptions import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

__all__ = ["DEFAULT_CMAP", "SCALES", "Style", "colormap", "gradient"]

DEFAULT_CMAP = "viridis"
"""The colormap where nothing is said: it reads the same in grey and for the colour blind."""

COLOURS = 255
"""Colours of a single-band tile; the 256th entry of its palette is "nothing here"."""


SCALES = ("linear", "sqrt", "log", "asinh")
"""How values may be spread between the limits; the last three show what is faint beside what is bright."""


@lru_cache(maxsize=1)
def _tables() -> dict[str, Path]:
    """Return rio-tiler's colour tables by lower-cased name, without importing rio-tiler: that takes a second."""
    found = importlib.util.find_spec("rio_tiler")
    folders = found.submodule_search_locations if found else None
    return {
        path.stem.lower(): path
        for folder in folders or ()
        for path in Path(folder, "cmap_data").glob("*.npy")
    }


def _check(name: str) -> Path:
    """Return where the table of the colormap `name` is."""
    names = _tables()
    found = names.get(name.lower())
    if found is None:
        near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
        known = ", ".join(near or ["viridis", "gray", "rdylgn", "terrain"])
        raise InputError(f"There is no colormap {name!r}; did you mean one of: {known}?")
    return found


@lru_cache(maxsize=32)
def colormap(name: str) -> npt.NDArray[np.uint8]:
    """Return a colormap as a table.

    Parameters
    ----------
    name
        A name known to matplotlib or cmocean, in any case, such as ``viridis``, ``RdYlGn`` or ``thermal_r``.

    Returns
    -------
    numpy.ndarray
        Red, green, blue and opacity from 0 to 255, shape (255, 4), uint8: from the smallest to the largest value.

    Raises
    ------
    InputError
        There is no such colormap; the text names those that are spelled alike.
    """
    colours = np.load(_check(name), allow_pickle=False).astype(np.uint8)
    picked = np.linspace(0, len(colours) - 1, COLOURS).round().astype(np.intp)
    result: npt.NDArray[np.uint8] = colours[picked]
    result.setflags(write=False)
    return result


def gradient(name: str, *, stops: int = 16) -> list[str]:
    """Return `stops` colours of the colormap `name` as CSS (``#rrggbb``), from low to high."""
    table = colormap(name)
    picked = np.linspace(0, len(table) - 1, stops).round().astype(np.intp)
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in table[picked, :3]]


@dataclass(frozen=True)
class Style:
    """How a tile is drawn."""

    cmap: str = DEFAULT_CMAP
    """Colours of a result with a single band."""
    vmin: tuple[float, ...] = ()
    """The value that gets the first colour, once or per band; the 2nd percentile where nothing is said."""
    vmax: tuple[float, ...] = ()
    """The value that gets the last colour, once or per band; the 98th percentile where nothing is said."""
    scale: str = "linear"
    """How values are spread between the limits: one of `SCALES`."""

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Style:
        """Read a style from the query of an address.

        Parameters
        ----------
        query
            May have ``cmap`` (a name), ``vmin`` and ``vmax`` (a number, or one per band with commas between) and
            ``scale`` (linear, sqrt, log or asinh).

        Returns
        -------
        Style

        Raises
        ------
        InputError
            A number is none, or the smaller limit is not below the larger one.
        """
        style = cls(
            cmap=query.get("cmap") or DEFAULT_CMAP,
            vmin=_numbers("vmin", query.get("vmin", "")),
            vmax=_numbers("vmax", query.get("vmax", "")),
            scale=query.get("scale") or "linear",
        )
        style.check()
        return style

    def check(self) -> None:
        """Raise InputError where the limits cannot be used, or there is no such colormap or scale."""
        _check(self.cmap)
        if self.scale not in SCALES:
            raise InputError(f"There is no scale {self.scale!r}; choose one of: {', '.join(SCALES)}.")
        if not self.vmin or not self.vmax:
            return
        if 1 not in {len(self.vmin), len(self.vmax)} and len(self.vmin) != len(self.vmax):
            raise InputError(
                f"vmin has {len(self.vmin)} numbers and vmax {len(self.vmax)}; give as many of both."
            )
        pairs = zip(
            self.vmin * (1 if len(self.vmin) > 1 else len(self.vmax)),
            self.vmax * (1 if len(self.vmax) > 1 else len(self.vmin)),
            strict=True,
        )
        for low, high in pairs:
            if low >= high:
                raise InputError(f"vmin {low:g} is not below vmax {high:g}; swap them or choose others.")

    @property
    def complete(self) -> bool:
        """Whether both limits are given."""
        return bool(self.vmin and self.vmax)

    def limits(self, band: int) -> tuple[float, float]:
        """Return the limits of `band`, counted from 0; the style has to be complete."""
        return (
            self.vmin[band] if band < len(self.vmin) else self.vmin[-1],
            self.vmax[band] if band < len(self.vmax) else self.vmax[-1],
        )

    def filled(self, stretch: list[tuple[float, float]]) -> Style:
        """Return the style with what it leaves open taken from `stretch`, a pair per band."""
        lows, highs = zip(*stretch, strict=True) if stretch else ((0.0,), (1.0,))
        return replace(self, vmin=self.vmin or tuple(lows), vmax=self.vmax or tuple(highs))

    def to_json(self) -> dict[str, Any]:
        """Return the style as plain data."""
        return {
            "cmap": self.cmap,
            "vmin": list(self.vmin),
            "vmax": list(self.vmax),
            "scale": self.scale,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Style:
        """Return the style that `to_json` gave."""
        return cls(
            str(data["cmap"]), tuple(data["vmin"]), tuple(data["vmax"]), str(data.get("scale", "linear"))
        )


def _numbers(name: str, text: str) -> tuple[float, ...]:
    """Return the numbers in `text`, which has commas between them."""
    try:
        values = tuple(float(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        raise InputError(
            f"{name}={text!r} is no number; give one, or one per band with commas between."
        ) from None
    if not all(math.isfinite(value) for value in values):
        raise InputError(f"{name}={text!r} is not finite; give a plain number.")
    return values
