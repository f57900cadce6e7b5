"""Steps that compute pixel by pixel: NumPy's own functions, and choices between values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from typing_extensions import override

from cupola.lab.chains.graph.base import Part, Step, Value, check_counts, step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cupola.lab.chains.graph.context import Context

__all__ = ["UFUNCS", "Ufunc", "Where"]

UFUNCS = frozenset(
    {
        "absolute", "add", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "cbrt", "ceil", "cos", "cosh", "degrees",
        "divide", "equal", "exp", "exp2", "expm1", "fabs", "floor", "floor_divide", "fmax", "fmin", "greater",
        "greater_equal", "hypot", "isfinite", "isnan", "less", "less_equal", "log", "log10", "log1p", "log2",
        "logical_and", "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "multiply", "negative",
        "not_equal", "positive", "power", "radians", "remainder", "rint", "sign", "sin", "sinh", "sqrt", "square",
        "subtract", "tan", "tanh", "trunc",
    }
)  # fmt: skip
"""NumPy's functions that a chain may name: pixel by pixel, float to float."""

_KEEPS_NAN = frozenset({"isfinite", "isnan"})
"""Functions that answer for missing values too."""

_SIGNS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "power": "to the power of", "remainder": "modulo",
    "less": "<", "less_equal": "≤", "greater": ">", "greater_equal": "≥", "equal": "=", "not_equal": "≠",
    "logical_and": "and", "logical_or": "or",
}  # fmt: skip


@step("ufunc")
@dataclass(frozen=True, eq=False)
class Ufunc(Step):
    """One of NumPy's pixel-by-pixel functions."""

    name: str = "positive"

    @classmethod
    @override
    def made(cls, inputs: tuple[Part, ...], options: dict[str, Any]) -> Self:
        if options["name"] not in UFUNCS:
            raise ValueError(f"there is no function {options['name']!r}")
        count = getattr(np, options["name"]).nin
        if len(inputs) != count:
            raise ValueError(f"{options['name']} takes {count} values, not {len(inputs)}")
        return cls(inputs, options["name"])

    @override
    def compute(self, parts: Sequence[Value], context: Context) -> NDArray[np.float32]:
        check_counts(parts)
        function: np.ufunc = getattr(np, self.name)
        with np.errstate(all="ignore"):
            result = function(*parts)
            if result.dtype != np.bool_:
                return np.asarray(result, dtype=np.float32)
            answer: NDArray[np.float32] = result.astype(np.float32)
        if self.name not in _KEEPS_NAN:
            # "NaN < 3" is no, but of a missing value nothing can be said.
            for part in parts:
                np.copyto(answer, np.float32(np.nan), where=np.broadcast_to(np.isnan(part), answer.shape))
        return answer

    @override
    def words(self, parts: Sequence[str]) -> str:
        sign = _SIGNS.get(self.name)
        if sign is not None:
            return f"{parts[0]} {sign} {parts[1]}"
        return f"{self.name.replace('_', ' ')} of {' and '.join(parts)}"

    @override
    def label(self, bands: str) -> str:
        return f"{self.name} of {bands}"


@step("where")
@dataclass(frozen=True, eq=False)
class Where(Step):
    """The second input where the first holds, the third elsewhere, NaN where the first is unknown."""

    arity: ClassVar[int | None] = 3

    @classmethod
    @override
    def made(cls, inputs: tuple[Part, ...], options: dict[str, Any]) -> Self:
        condition, chosen, other = inputs
        if not isinstance(condition, Step):
            raise ValueError("the condition is a number")  # noqa: TRY004 - as for all wrong steps
        return cls((condition, chosen, other))

    @override
    def compute(self, parts: Sequence[Value], context: Context) -> NDArray[np.float32]:
        condition, chosen, other = parts
        check_counts(parts)
        result: NDArray[np.float32] = np.asarray(np.where(condition != 0, chosen, other), dtype=np.float32)
        np.copyto(result, np.float32(np.nan), where=np.broadcast_to(np.isnan(condition), result.shape))
        return result

    @override
    def words(self, parts: Sequence[str]) -> str:
        condition, chosen, other = parts
        rest = "nothing" if other == "nan" else other
        return f"{chosen} where {condition}, {rest} elsewhere"

    @override
    def label(self, bands: str) -> str:
        return f"masked {bands}" if self.inputs[2] != self.inputs[2] else f"computed from {bands}"
