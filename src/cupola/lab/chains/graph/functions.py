"""A person's own function as a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from typing_extensions import override

from cupola.lab.chains.functions import Function
from cupola.lab.chains.graph.base import Part, Step, Value, step

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from cupola.lab.chains.graph.context import Context

__all__ = ["MAX_HALO", "Map"]

MAX_HALO = 512
"""Pixels; a wider neighbourhood would make every tile read many times its size."""


@step("map")
@dataclass(frozen=True, eq=False)
class Map(Step):
    """A function of one array per band."""

    function: Function
    halo: int = 0

    writes: ClassVar[bool] = True
    arity: ClassVar[int | None] = 1

    @override
    def options(self) -> dict[str, Any]:
        return {"halo": self.halo, "function": self.function.to_json()}

    @classmethod
    @override
    def made(cls, inputs: tuple[Part, ...], options: dict[str, Any]) -> Self:
        halo = int(options["halo"])
        if not 0 <= halo <= MAX_HALO:
            raise ValueError(f"halo is a number of pixels from 0 to {MAX_HALO}, not {halo}")
        return cls(inputs, Function.from_json(options["function"]), halo)

    @override
    def compute(self, parts: Sequence[Value], context: Context) -> NDArray[np.float32]:
        return self.function(list(parts[0]))

    @override
    def words(self, parts: Sequence[str]) -> str:
        name = "a function" if self.function.name == "<lambda>" else self.function.name
        near = f", which looks {self.halo} pixels around" if self.halo else ""
        return f"{name} of {parts[0]}{near}"

    @override
    def label(self, bands: str) -> str:
        return (
            f"function of {bands}" if self.function.name == "<lambda>" else f"{self.function.name}({bands})"
        )
