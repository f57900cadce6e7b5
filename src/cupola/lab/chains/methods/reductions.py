"""One image of many: reductions of chains over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cupola.exceptions import InputError
from cupola.lab.chains.graph.bands import Bands
from cupola.lab.chains.graph.reduce import Reduce
from cupola.lab.chains.methods.base import Methods, number

if TYPE_CHECKING:
    from typing import Self

    from cupola.lab.chains.graph.base import Step

__all__ = ["Reductions"]


class Reductions(Methods):
    """Reductions over the items of a chain, band by band; missing values are left out, NaN where all are missing."""

    __slots__ = ()

    def _reduced(self, how: str, q: float | None = None) -> Self:
        return self._next(Reduce((self.step,), how, q))

    def mean(self) -> Self:
        """Return the mean over time."""
        return self._reduced("mean")

    def median(self) -> Self:
        """Return the median over time."""
        return self._reduced("median")

    def min(self) -> Self:
        """Return the least value over time."""
        return self._reduced("min")

    def max(self) -> Self:
        """Return the greatest value over time."""
        return self._reduced("max")

    def sum(self) -> Self:
        """Return the sum over time."""
        return self._reduced("sum")

    def std(self) -> Self:
        """Return the standard deviation over time (of the whole population: divided by the number of values)."""
        return self._reduced("std")

    def count(self) -> Self:
        """Return how many values there are over time."""
        return self._reduced("count")

    def first(self) -> Self:
        """Return the earliest value."""
        return self._reduced("first")

    def last(self) -> Self:
        """Return the latest value, band by band; `mosaic` keeps the bands of an image together."""
        return self._reduced("last")

    def percentile(self, q: float) -> Self:
        """Return a percentile over time, linear between values.

        Raises
        ------
        InputError
            When `q` does not lie between 0 and 100.
        """
        return self._reduced("percentile", number(q, "A percentile lies between 0 and 100", 0, 100))

    def mosaic(self) -> Self:
        """Return the items over one another, the newest on top, as one image."""
        return self._reduced("mosaic")

    def during(self, datetime: str) -> Self:
        """Return the same chain over another span of its collection's time, whatever span it has now.

        Parameters
        ----------
        datetime
            Such as ``2020-03``, ``2020-02-01/2020-03-01`` or ``2020-02-01/..``.

        Raises
        ------
        InputError
            When the span is wrong, or the chain is of more than one collection.
        """
        sources = set()

        def changed(step: Step) -> Step:
            if not isinstance(step, Bands):
                return step
            sources.add(step.source)
            return step.of(step.source.during(datetime))

        chain = self._rebuilt(changed)
        if len(sources) > 1:
            raise InputError(
                "This chain is of more than one collection or span: say during() of each part before they meet."
            )
        return chain
