"""Arithmetic, comparisons and choices of chains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import override

from cupola.exceptions import InputError
from cupola.lab.chains.graph.arithmetic import UFUNCS, Ufunc, Where
from cupola.lab.chains.graph.bands import Stack
from cupola.lab.chains.methods.base import Methods

if TYPE_CHECKING:
    from typing import Self

    import numpy as np

__all__ = ["Arithmetic"]


class Arithmetic(Methods):
    """Computations pixel by pixel, between chains and with numbers."""

    __slots__ = ()

    def where(self, condition: Methods, other: Methods | float = float("nan")) -> Self:
        """Return this where `condition` holds, `other` elsewhere, and NaN where the condition is unknown.

        Raises
        ------
        InputError
            When the condition is no chain, or its images cannot be combined with these.
        """
        if not isinstance(condition, Methods):
            raise InputError("where() takes a condition made of chains, such as ndvi.where(ndvi > 0.3).")
        return self._next(Where((condition.step, self.step, self._part(other))), condition, other)

    def clip(self, low: float, high: float) -> Self:
        """Return values limited to `low` ... `high`."""
        return self._ufunc("minimum", self._ufunc("maximum", self, low), high)

    def stack(self, *others: Methods | float) -> Self:
        """Return the bands of this chain and those of `others` after them, such as three for a colour picture."""
        return self._next(Stack((self.step, *(self._part(other) for other in others))), *others)

    def _ufunc(self, name: str, *values: Any) -> Self:
        return self._next(Ufunc(tuple(self._part(value) for value in values), name), *values)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Let ``np.sqrt(chain)`` and ``np.float32(2) * chain`` make chains."""
        if method != "__call__" or options or ufunc.__name__ not in UFUNCS:
            raise InputError(
                f"np.{ufunc.__name__} does not work on chains: use map() with a function that calls it."
            )
        return self._ufunc(ufunc.__name__, *inputs)

    def __array_function__(self, function: Any, *_: Any) -> Any:
        """Refuse NumPy's functions over whole arrays, such as ``np.mean``: there is no whole array."""
        raise InputError(
            f"np.{function.__name__} does not work on chains: use map() with a function that calls it, where() for a "
            "choice, or mean(), median() ... of the chain over time."
        )

    def __array__(self, *_: Any, **__: Any) -> Any:
        """Refuse to be taken for an array, as plots and NumPy try."""
        raise InputError(
            "A chain has no pixels before it is computed: chain.compute() gives an array of one image or of a bbox."
        )

    def __add__(self, other: Any) -> Self:
        return self._ufunc("add", self, other)

    def __radd__(self, other: Any) -> Self:
        return self._ufunc("add", other, self)

    def __sub__(self, other: Any) -> Self:
        return self._ufunc("subtract", self, other)

    def __rsub__(self, other: Any) -> Self:
        return self._ufunc("subtract", other, self)

    def __mul__(self, other: Any) -> Self:
        return self._ufunc("multiply", self, other)

    def __rmul__(self, other: Any) -> Self:
        return self._ufunc("multiply", other, self)

    def __truediv__(self, other: Any) -> Self:
        return self._ufunc("divide", self, other)

    def __rtruediv__(self, other: Any) -> Self:
        return self._ufunc("divide", other, self)

    def __floordiv__(self, other: Any) -> Self:
        return self._ufunc("floor_divide", self, other)

    def __mod__(self, other: Any) -> Self:
        return self._ufunc("remainder", self, other)

    def __pow__(self, other: Any) -> Self:
        return self._ufunc("power", self, other)

    def __rpow__(self, other: Any) -> Self:
        return self._ufunc("power", other, self)

    def __neg__(self) -> Self:
        return self._ufunc("negative", self)

    def __abs__(self) -> Self:
        return self._ufunc("absolute", self)

    def __lt__(self, other: Any) -> Self:
        return self._ufunc("less", self, other)

    def __le__(self, other: Any) -> Self:
        return self._ufunc("less_equal", self, other)

    def __gt__(self, other: Any) -> Self:
        return self._ufunc("greater", self, other)

    def __ge__(self, other: Any) -> Self:
        return self._ufunc("greater_equal", self, other)

    @override
    def __eq__(self, other: object) -> Self:  # type: ignore[override]
        return self._ufunc("equal", self, other)

    @override
    def __ne__(self, other: object) -> Self:  # type: ignore[override]
        return self._ufunc("not_equal", self, other)

    def __and__(self, other: Any) -> Self:
        return self._ufunc("logical_and", self, other)

    def __or__(self, other: Any) -> Self:
        return self._ufunc("logical_or", self, other)

    def __invert__(self) -> Self:
        return self._ufunc("logical_not", self)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise TypeError("A chain has no truth value before it is computed: combine conditions with & and |.")
