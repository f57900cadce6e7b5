"""The steps of a chain, their JSON and their values.

A chain is a tree of steps whose equal parts are written once. As JSON (version 1)::

    {"type": "cupola-chain", "version": 1,
     "collection": {"source": "/path", "bbox": [w, s, e, n] | null, "datetime": "2020-02" | null},
     "steps": [
        {"op": "bands", "names": ["B04", "B08"]},
        {"op": "map", "inputs": [0], "halo": 2, "function": {"name", "source", "pickle", "python"}},
        {"op": "select", "inputs": [1], "index": 0},
        {"op": "ufunc", "name": "add", "inputs": [2, {"number": 1.0}]},
        {"op": "where", "inputs": [condition, chain, {"number": "nan"}]}]}

``inputs`` are numbers of earlier steps, or numbers to compute with; the last step is the result. The SHA-256 of
this JSON with sorted keys is the chain's hash: the name of its tiles, and its provenance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from cupola.exceptions import InputError
from cupola.lab.chains.functions import Function

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = [
    "UFUNCS",
    "Bands",
    "Map",
    "Select",
    "Step",
    "Ufunc",
    "Where",
    "bands_of",
    "evaluate",
    "functions_of",
    "halo_of",
    "steps_from_json",
    "steps_to_json",
]

UFUNCS = frozenset(
    {
        "absolute", "add", "arccos", "arcsin", "arctan", "arctan2", "cbrt", "ceil", "cos", "cosh", "degrees",
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


@dataclass(frozen=True, eq=False)
class Bands:
    """The bands with which a chain starts, read from the files."""

    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Map:
    """A function of one array per band."""

    input: Step
    function: Function
    halo: int = 0
    """How many pixels around each pixel the function looks at."""


@dataclass(frozen=True, eq=False)
class Select:
    """One band of the input."""

    input: Step
    index: int


@dataclass(frozen=True, eq=False)
class Ufunc:
    """One of NumPy's pixel-by-pixel functions."""

    name: str
    inputs: tuple[Step | float, ...]


@dataclass(frozen=True, eq=False)
class Where:
    """`chosen` where the condition holds, `other` elsewhere, NaN where the condition is unknown."""

    condition: Step
    chosen: Step | float
    other: Step | float


Step: TypeAlias = Bands | Map | Select | Ufunc | Where


def _inputs(step: Step) -> tuple[Step | float, ...]:
    match step:
        case Bands():
            return ()
        case Map() | Select():
            return (step.input,)
        case Ufunc():
            return step.inputs
        case Where():
            return (step.condition, step.chosen, step.other)


@dataclass(frozen=True)
class _Line:
    """A step in a program: its inputs are the numbers (int) of earlier lines, or constants (float)."""

    step: Step
    inputs: tuple[int | float, ...]

    @property
    def lines(self) -> list[int]:
        return [part for part in self.inputs if isinstance(part, int)]


def _program(last: Step) -> list[_Line]:
    """Return all steps, equal ones once, inputs before those that use them.

    Without recursion and with each step visited once: ``x = x + x`` thirty times over has 2^30 branches.
    """
    lines: list[_Line] = []
    by_content: dict[tuple[Any, ...], int] = {}
    number: dict[int, int] = {}
    todo: list[tuple[Step, bool]] = [(last, False)]
    while todo:
        step, ready = todo.pop()
        if id(step) in number:
            continue
        parts = _inputs(step)
        if not ready:
            todo.append((step, True))
            todo.extend((part, False) for part in reversed(parts) if not isinstance(part, (int, float)))
            continue
        inputs = tuple(float(p) if isinstance(p, (int, float)) else number[id(p)] for p in parts)
        # repr() keeps the constant 1.0 apart from line 1, and makes NaN equal to itself.
        content = (*_options(step), repr(inputs))
        if content not in by_content:
            by_content[content] = len(lines)
            lines.append(_Line(step, inputs))
        number[id(step)] = by_content[content]
    return lines


def _options(step: Step) -> tuple[Any, ...]:
    """Return what a step is, without its inputs."""
    match step:
        case Bands(names=names):
            return ("bands", names)
        case Map(function=function, halo=halo):
            return ("map", function, halo)
        case Select(index=index):
            return ("select", index)
        case Ufunc(name=name):
            return ("ufunc", name)
        case Where():
            return ("where",)


def bands_of(last: Step) -> tuple[str, ...]:
    """Return the names of all bands that are read, each once."""
    names = [name for line in _program(last) if isinstance(line.step, Bands) for name in line.step.names]
    return tuple(dict.fromkeys(names))


def functions_of(last: Step) -> list[Function]:
    """Return the person's own functions, in the order in which they run."""
    return [line.step.function for line in _program(last) if isinstance(line.step, Map)]


def halo_of(last: Step) -> int:
    """Return how many pixels around a place all steps together look at."""
    reach: list[int] = []
    for line in _program(last):
        below = max((reach[number] for number in line.lines), default=0)
        reach.append(below + (line.step.halo if isinstance(line.step, Map) else 0))
    return reach[-1]


def evaluate(last: Step, read: Callable[[str], Sequence[NDArray[np.float32]]]) -> NDArray[np.float32]:
    """Compute a chain.

    Parameters
    ----------
    last
        The step whose result is wanted.
    read
        Returns the arrays (rows, columns) of the bands that a name stands for.

    Returns
    -------
    values
        float32 (bands, rows, columns).

    Raises
    ------
    InputError
        When a function returns no image, or band counts do not fit.
    """
    program = _program(last)
    last_use = {number: user for user, line in enumerate(program) for number in line.lines}
    values: dict[int, NDArray[np.float32]] = {}
    for place, line in enumerate(program):
        parts: list[Any] = [
            values[part] if isinstance(part, int) else np.float32(part) for part in line.inputs
        ]
        match line.step:
            case Bands(names=names):
                values[place] = np.stack([array for name in names for array in read(name)])
            case Map(function=function):
                # A function may write into its arrays; nobody else may see that.
                shared = any(last_use[number] > place for number in line.lines)
                values[place] = function(list(parts[0].copy() if shared else parts[0]))
            case Select(index=index):
                values[place] = _selected(parts[0], index)
            case Ufunc(name=name):
                values[place] = _ufunc(name, parts)
            case Where():
                values[place] = _where(*parts)
        for number in line.lines:
            if last_use[number] == place:
                values.pop(number, None)  # windows are large: hold no result longer than it is used
    return values[len(program) - 1]


def _selected(array: NDArray[np.float32], index: int) -> NDArray[np.float32]:
    count = array.shape[0]
    if not -count <= index < count:
        raise InputError(f"The chain has {count} band{'s'[: count > 1]} here, so there is no band {index}.")
    number = index % count
    return array[number : number + 1]


def _check_counts(parts: Sequence[Any]) -> None:
    counts = {part.shape[0] for part in parts if isinstance(part, np.ndarray)}
    if len(counts - {1}) > 1:
        shown = " and ".join(str(count) for count in sorted(counts))
        raise InputError(
            f"Chains of {shown} bands cannot be combined: choose one band of each, such as chain[0]."
        )


def _ufunc(name: str, parts: Sequence[Any]) -> NDArray[np.float32]:
    _check_counts(parts)
    function: np.ufunc = getattr(np, name)
    with np.errstate(all="ignore"):
        result = function(*parts)
        if result.dtype != np.bool_:
            return np.asarray(result, dtype=np.float32)
        answer: NDArray[np.float32] = result.astype(np.float32)
    if name not in _KEEPS_NAN:
        # "NaN < 3" is no, but of a missing value nothing can be said.
        for part in parts:
            np.copyto(answer, np.float32(np.nan), where=np.broadcast_to(np.isnan(part), answer.shape))
    return answer


def _where(condition: NDArray[np.float32], chosen: Any, other: Any) -> NDArray[np.float32]:
    _check_counts([condition, chosen, other])
    result: NDArray[np.float32] = np.where(condition != 0, chosen, other).astype(np.float32)
    np.copyto(result, np.float32(np.nan), where=np.broadcast_to(np.isnan(condition), result.shape))
    return result


def steps_to_json(last: Step) -> list[dict[str, Any]]:
    """Return the steps as JSON can hold them; the last one is the result."""

    def one(part: float) -> Any:
        if isinstance(part, int):
            return part
        return {"number": part if math.isfinite(part) else str(part)}

    documents: list[dict[str, Any]] = []
    for line in _program(last):
        inputs = [one(part) for part in line.inputs]
        match line.step:
            case Bands(names=names):
                documents.append({"op": "bands", "names": list(names)})
            case Map(function=function, halo=halo):
                documents.append(
                    {"op": "map", "inputs": inputs, "halo": halo, "function": function.to_json()}
                )
            case Select(index=index):
                documents.append({"op": "select", "inputs": inputs, "index": index})
            case Ufunc(name=name):
                documents.append({"op": "ufunc", "name": name, "inputs": inputs})
            case Where():
                documents.append({"op": "where", "inputs": inputs})
    return documents


def steps_from_json(documents: object) -> Step:
    """Return the last of the steps that `steps_to_json` wrote.

    Raises
    ------
    InputError
        When the JSON is no chain.
    """
    if not isinstance(documents, list) or not documents:
        raise InputError("This is no chain: it has no steps.")
    steps: list[Step] = []
    for position, document in enumerate(documents):
        try:
            steps.append(_step(document, steps))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise InputError(f"Step {position} of the chain is wrong ({error}).") from error
    return steps[-1]


def _step(document: dict[str, Any], earlier: list[Step]) -> Step:  # noqa: C901 - one case per kind of step
    def part(value: Any) -> Step | float:
        if isinstance(value, dict):
            return float(value["number"])
        return step(value)

    def step(value: Any) -> Step:
        if not isinstance(value, int) or not 0 <= value < len(earlier):
            raise ValueError(f"there is no earlier step {value!r}")
        return earlier[value]

    inputs = document.get("inputs", [])
    match document["op"]:
        case "bands":
            return Bands(tuple(str(name) for name in document["names"]))
        case "map":
            return Map(step(inputs[0]), Function.from_json(document["function"]), int(document["halo"]))
        case "select":
            return Select(step(inputs[0]), int(document["index"]))
        case "ufunc":
            if document["name"] not in UFUNCS:
                raise ValueError(f"there is no function {document['name']!r}")
            return Ufunc(document["name"], tuple(part(value) for value in inputs))
        case "where":
            return Where(step(inputs[0]), part(inputs[1]), part(inputs[2]))
        case other:
            raise ValueError(f"there is no step {other!r}")
