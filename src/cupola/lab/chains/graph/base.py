"""What every step of a chain has: its name in the JSON, its inputs and options, and what it computes.

A family of steps is a module of this package with one class for each step::

    @step("slope")
    @dataclass(frozen=True, eq=False)
    class Slope(Step):
        unit: str = "degrees"

        halo = 1

        def compute(self, parts, context):
            ...

The fields beside ``inputs`` are the options in the JSON, so they hold what JSON can hold (lists become tuples again).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias, TypeVar

import numpy as np

from cupola.exceptions import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from cupola.lab.chains.graph.context import Context
    from cupola.lab.chains.graph.source import Source

__all__ = ["STEPS", "Part", "Step", "Value", "check_counts", "sources_to_json", "step"]

Part: TypeAlias = "Step | float"
"""An input: another step, or a number."""
Value: TypeAlias = Any
"""An input's value: float32 (bands, rows, columns), or a float32 number."""


@dataclass(frozen=True, eq=False)
class Step:
    """A step and what it stands on. Equal steps are told by their options and inputs, when a program is made."""

    inputs: tuple[Part, ...]

    op: ClassVar[str] = ""
    """Its name in the JSON; given by `step`."""
    arity: ClassVar[int | None] = None
    """How many inputs it takes; nothing where any number goes, or it looks at them itself."""
    leaf: ClassVar[bool] = False
    """Whether the evaluation stops here and fetches the value in a way of its own, instead of calling `compute`."""
    writes: ClassVar[bool] = False
    """Whether `compute` may write into the arrays that it is given."""

    @property
    def halo(self) -> int:
        """How many pixels around each pixel it looks at: so much more is given on all sides, and taken off later."""
        return 0

    @property
    def alone(self) -> bool:
        """Whether `compute` sees to its inputs itself, such as whole images, and is given no values of them."""
        return False

    @property
    def sources(self) -> tuple[Source, ...]:
        """The collections that this step itself reads."""
        return ()

    def options(self) -> dict[str, Any]:
        """Return what the step is beside its inputs, as JSON can hold it."""
        return {
            field.name: _plain(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name != "inputs"
        }

    @classmethod
    def made(cls, inputs: tuple[Part, ...], options: dict[str, Any]) -> Self:
        """Return the step that `options` told of; wrong ones raise KeyError, TypeError, ValueError or InputError."""
        known = {field.name for field in dataclasses.fields(cls)} - {"inputs"}
        for name in options:
            if name not in known:
                raise ValueError(f"{cls.op} has no option {name!r}")
        return cls(inputs, **{name: _frozen(value) for name, value in options.items()})

    def compute(self, parts: Sequence[Value], context: Context) -> NDArray[np.float32]:
        """Return the step's value.

        Parameters
        ----------
        parts
            The values of the inputs: float32 arrays (bands, rows, columns), or float32 numbers.
        context
            Where the pixels lie.

        Returns
        -------
        value
            float32 (bands, rows, columns) of the same rows and columns, NaN where there is no data. Results within
            `halo` pixels of the border are thrown away, except where the image itself ends.
        """
        raise NotImplementedError

    def words(self, parts: Sequence[str]) -> str:
        """Say what the step does with its inputs, for people; the inputs are told in a few words each."""
        return f"{self.op.replace('_', ' ')} of {', '.join(parts)}" if parts else self.op

    def label(self, bands: str) -> str:
        """Return a few words for a layer whose last step this is; `bands` names those that the chain reads."""
        return f"{self.op.replace('_', ' ')} of {bands}"


S = TypeVar("S", bound=type[Step])

STEPS: dict[str, type[Step]] = {}
"""The steps known here, by their name in the JSON."""


def step(op: str) -> Callable[[S], S]:
    """Enter a class of steps under its name."""

    def entered(kind: S) -> S:
        if op in STEPS:
            raise ValueError(f"There are two steps called {op!r}.")
        kind.op = op
        STEPS[op] = kind
        return kind

    return entered


def _plain(value: Any) -> Any:
    """Return an option as JSON has it: a list for a tuple."""
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def _frozen(value: Any) -> Any:
    """Return a tuple for a list of the JSON."""
    return tuple(_frozen(part) for part in value) if isinstance(value, list) else value


def sources_to_json(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Return the collections of a chain as its JSON lists them."""
    return [dict(source.reference) for source in sources]


def check_counts(parts: Sequence[Value]) -> None:
    """Refuse values whose numbers of bands do not fit; one band goes with any number.

    Raises
    ------
    InputError
        When they do not.
    """
    counts = {part.shape[0] for part in parts if isinstance(part, np.ndarray)}
    if len(counts - {1}) > 1:
        shown = " and ".join(str(count) for count in sorted(counts))
        raise InputError(
            f"Chains of {shown} bands cannot be combined: choose one band of each, such as chain[0]."
        )
