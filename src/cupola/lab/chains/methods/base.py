"""What the methods of chains stand on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.exceptions import InputError
from cupola.lab.chains.graph.program import common_source

if TYPE_CHECKING:
    from typing import Self

    from cupola.lab.bodies import Body
    from cupola.lab.chains.graph.base import Part, Step
    from cupola.lab.chains.graph.source import Source
    from cupola.lab.collections.collection import Collection

__all__ = ["Methods", "number"]


class Methods:
    """A chain, as its families of methods see it."""

    __slots__ = ()

    if TYPE_CHECKING:
        step: Step
        per_item: Source | None

        @property
        def collection(self) -> Collection:
            """The collection it computes over."""

        @property
        def body(self) -> Body | None:
            """The celestial body it shows."""

        def _made(self, step: Step, per_item: Source | None) -> Self:
            """Return the chain of a step."""

        def _rebuilt(self, change: Any) -> Self:
            """Return the chain in which `change` was made to each step."""

    def _next(self, step: Step, *others: Any) -> Self:
        """Return the chain whose result is `step`, made of this chain and `others`."""
        chains = [other for other in others if isinstance(other, Methods)]
        return self._made(step, common_source(step, [self.per_item, *(chain.per_item for chain in chains)]))

    @staticmethod
    def _part(value: Any) -> Part:
        """Return a chain's step or a number as an input.

        Raises
        ------
        InputError
            When it is neither.
        """
        if isinstance(value, Methods):
            return value.step
        if isinstance(value, (bool, int, float, np.number, np.bool_)):
            return float(value)
        raise InputError(
            f"A chain can be combined with numbers and chains, not with {type(value).__name__}: "
            "use map() for arrays."
        )


def number(value: Any, what: str, low: float = -math.inf, high: float = math.inf) -> float:
    """Return a finite number within limits.

    Raises
    ------
    InputError
        When it is none; `what` says what was asked for.
    """
    good = isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, np.bool_))
    if not good or not math.isfinite(float(value)) or not low <= float(value) <= high:
        raise InputError(f"{what}, not {value!r}.")
    return float(value)
