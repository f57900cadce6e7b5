"""At which scale a chain is computed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cupola.exceptions import InputError
from cupola.lab.chains.graph.bands import RESAMPLINGS, Bands
from cupola.lab.chains.graph.scale import At
from cupola.lab.chains.methods.base import Methods, number

if TYPE_CHECKING:
    from typing import Self

    from cupola.lab.chains.graph.base import Step

__all__ = ["Scale"]


class Scale(Methods):
    """Pixel sizes and resampling of chains."""

    __slots__ = ()

    def at(self, metres: float) -> Self:
        """Compute all this at a pixel size of its own, whoever asks: a map at any zoom, or a run.

        Without it a step is computed at the scale that is asked for: that of the map, or of the files. A function of
        neighbours then sees other neighbours on a coarse map than at full resolution; `at` makes both agree. The image
        is brought to that pixel size first (by averages, classes by the nearest pixel), on a grid that begins at its
        own corner.

        Parameters
        ----------
        metres
            On the ground per pixel (arcseconds on the sky, pixels of an image without a coordinate system).

        Raises
        ------
        InputError
            When it is no positive number.
        """
        if number(metres, "A scale is a positive number of metres", 0) == 0:
            raise InputError("A scale is a positive number of metres, not 0.")
        return self._next(At((self.step,), float(metres)))

    def resample(self, method: str) -> Self:
        """Choose how the bands of this chain are brought to another grid.

        Parameters
        ----------
        method
            ``nearest`` (the usual), ``bilinear`` or ``cubic`` between pixels, ``average`` or ``mode`` (the most
            frequent, for classes) of those below a coarser pixel. Masks keep the nearest.

        Raises
        ------
        InputError
            When there is no such method.
        """
        if method not in RESAMPLINGS:
            raise InputError(f"There is no resampling {method!r}; choose one of {', '.join(RESAMPLINGS)}.")

        def changed(step: Step) -> Step:
            if isinstance(step, Bands) and step.resampling != "nearest":
                return dataclasses.replace(step, resampling=method)
            return step

        return self._rebuilt(changed)
