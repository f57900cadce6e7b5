"""Chains from and to openEO, and the linear neighbourhood that both have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cupola.lab.chains.graph.kernel import Kernel
from cupola.lab.chains.methods.base import Methods, number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from cupola.lab.chains.analysis.zonal import Zonal

__all__ = ["Exchange"]


class Exchange(Methods):
    """How chains travel to other systems and back."""

    __slots__ = ()

    def convolve(self, weights: Sequence[Sequence[float]], *, factor: float = 1.0) -> Self:
        """Return the sum of each pixel's neighbours times weights: smoothing, sharpening, edges.

        Parameters
        ----------
        weights
            Rows of numbers, odd in both directions, the middle one for the pixel itself; not mirrored. Neighbours without
            data count as 0, and pixels without data stay so.
        factor
            On the sum, such as 1/9 for the mean of 3 x 3.

        Raises
        ------
        InputError
            When the weights are no such table.
        """
        from cupola.exceptions import InputError

        try:
            rows = tuple(tuple(float(value) for value in row) for row in weights)
        except (TypeError, ValueError) as error:
            raise InputError("The weights of a neighbourhood are rows of numbers.") from error
        if len({len(row) for row in rows}) != 1:
            raise InputError("The weights of a neighbourhood are rows of numbers, all of the same length.")
        options = {"weights": rows, "factor": number(factor, "factor is a number")}
        return self._next(Kernel.made((self.step,), options))

    def to_openeo(self) -> dict[str, Any]:
        """Return the chain as an openEO process graph (``{"process_graph": ...}``), ready for a back-end or an editor.

        Collections are named by the last part of their path or address.

        Raises
        ------
        InputError
            When the chain has a step that openEO has no process for, such as a Python function; the text names it.
        """
        from cupola.lab.chains.openeo import to_openeo

        return to_openeo(self)  # type: ignore[arg-type]

    @classmethod
    def from_openeo(
        cls, graph: Mapping[str, Any], collections: Mapping[str, Any] | None = None
    ) -> Self | Zonal:
        """Return the chain that an openEO process graph describes; statistics where it ends in ``aggregate_spatial``.

        Parameters
        ----------
        graph
            The process graph, as a dictionary.
        collections
            Which collection (or path) stands for each id that the graph loads.

        Raises
        ------
        NotFoundError
            When the graph loads a collection that is not among them.
        InputError
            When it has processes that chains have nothing like; the text names the first.
        """
        from cupola.lab.chains.openeo import from_openeo

        return from_openeo(graph, collections)  # type: ignore[return-value]
