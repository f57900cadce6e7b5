"""A step that runs an external program: ISIS, the Ames Stereo Pipeline, or any other."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from typing_extensions import override

from cupola.exceptions import InputError
from cupola.lab.chains.graph.base import Part, Step, Value, step

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from cupola.lab.chains.graph.context import Context

__all__ = ["Command"]

_WAY_OUT = "run it as a job with .run(), or say pointwise=True where it treats each pixel alone"


@step("command")
@dataclass(frozen=True, eq=False)
class Command(Step):
    """What a program makes of the input, item by item."""

    command: tuple[str, ...] = ()
    """The words of its line; ``{input}``, ``{output}``, ``{folder}`` and ``{item}`` are put in."""
    input: str = ".tif"
    output: str = ".tif"
    pointwise: bool = False
    timeout: float = 3600.0

    arity: ClassVar[int | None] = 1

    @property
    @override
    def halo(self) -> int:
        # One that looks at the whole image is computed on the image's own pixels.
        return 0 if self.pointwise else 1

    @property
    @override
    def alone(self) -> bool:
        # The whole image is computed for it once: windows of it would be computed for nothing.
        return not self.pointwise

    @classmethod
    @override
    def made(cls, inputs: tuple[Part, ...], options: dict[str, Any]) -> Self:
        from cupola.lab.chains.compute.external import DRIVERS

        made = super().made(inputs, options)
        if (
            not made.command
            or not all(isinstance(word, str) for word in made.command)
            or not made.command[0].strip()
        ):
            raise InputError(
                "A command is a list of words, the program first: ['fx', 'f1={input}', 'to={output}']."
            )
        if not any("{input}" in word for word in made.command) or not any(
            "{output}" in word for word in made.command[1:]
        ):
            raise InputError(
                f"The command {made.command[0]} must name its files: {{input}} and {{output}} stand for them in its words."
            )
        for ending in (made.input, made.output):
            if not str(ending).startswith("."):
                raise InputError(
                    f"Files of a command are told by their ending, such as '.cub', not {ending!r}."
                )
        if made.input not in DRIVERS:
            raise InputError(f"A command can be given {', '.join(DRIVERS)} files, not {made.input!r}.")
        if not 0 < float(made.timeout) < float("inf"):
            raise InputError(f"timeout is a positive number of seconds, not {made.timeout!r}.")
        return made

    @override
    def compute(self, parts: Sequence[Value], context: Context) -> NDArray[np.float32]:
        from rasterio.windows import Window

        from cupola.lab.chains.compute import external

        program = external.Program(self.command, self.input, self.output, float(self.timeout))
        grid, item = context.grid, context.item
        if self.pointwise:
            return external.over_arrays(program, parts[0], None, "" if item is None else item.id)
        if context.preview:
            raise InputError(
                f"{program.name} needs whole images, which a viewport does not wait for: {_WAY_OUT}."
            )
        image = getattr(grid, "image", None)
        if (
            item is None
            or grid is None
            or image is None
            or getattr(grid, "step", 0.0) != 1
            or getattr(grid, "down", 0.0) != 1
        ):
            raise InputError(
                f"{program.name} runs over whole images at full resolution, so it comes before reductions and at(): {_WAY_OUT}."
            )
        before = self.inputs[0]
        if not isinstance(before, Step):
            raise InputError(f"{program.name} takes an image.")
        left, top = round(grid.left), round(grid.top)  # type: ignore[attr-defined]
        window = Window(left, top, grid.width, grid.height)
        return external.over_item(program, before, self._key(before), item, window)

    def _key(self, before: Step) -> str:
        from cupola.lab.chains.graph.program import Program

        text = f"{Program(before).to_json()}{self.options()}"
        return hashlib.sha256(text.encode()).hexdigest()

    @override
    def words(self, parts: Sequence[str]) -> str:
        return f"the program {' '.join(self.command)} over {parts[0]}"

    @override
    def label(self, bands: str) -> str:
        return f"{self.command[0]} of {bands}"
