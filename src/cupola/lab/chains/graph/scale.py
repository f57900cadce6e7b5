"""Steps that say at which scale what lies before them is computed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from typing_extensions import override

from cupola.lab.chains.graph.base import Part, Step, step

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["At"]


@step("at")
@dataclass(frozen=True, eq=False)
class At(Step):
    """The input, computed at a pixel size of its own whoever asks for it."""

    metres: float = 0.0
    """On the ground per pixel; arcseconds on the sky, pixels of an image without a coordinate system."""

    leaf: ClassVar[bool] = True
    arity: ClassVar[int | None] = 1

    @classmethod
    @override
    def made(cls, inputs: tuple[Part, ...], options: dict[str, Any]) -> Self:
        metres = float(options["metres"])
        if not (math.isfinite(metres) and metres > 0):
            raise ValueError(f"a scale is a positive number of metres, not {options['metres']}")
        return cls(inputs, metres)

    @override
    def words(self, parts: Sequence[str]) -> str:
        return f"{parts[0]}, computed at {self.metres:g} m"

    @override
    def label(self, bands: str) -> str:
        before = self.inputs[0]
        while isinstance(before, At):
            before = before.inputs[0]
        return f"{before.label(bands) if isinstance(before, Step) else bands} at {self.metres:g} m"
