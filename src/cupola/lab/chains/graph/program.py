"""A chain as a list of steps, each once and after those that it needs; its JSON, and its hash.

As JSON (version 2)::

    {"type": "cupola-chain", "version": 2,
     "collections": [{"source": "/path", "bbox": [w, s, e, n] | null, "datetime": "2020-02" | null, "query": null}],
     "steps": [
        {"op": "bands", "collection": 0, "names": ["B04", "B08"]},
        {"op": "map", "inputs": [0], "halo": 2, "function": {"name", "source", "pickle", "python"}},
        {"op": "select", "inputs": [1], "index": 0},
        {"op": "ufunc", "name": "add", "inputs": [2, {"number": 1.0}]},
        {"op": "where", "inputs": [condition, chain, {"number": "nan"}]}]}

``inputs`` are numbers of earlier steps, or numbers to compute with; the last step is the result. The SHA-256 of
this JSON with sorted keys is the chain's hash: the name of its tiles, and its provenance. Version 1 had one
``collection``, for all of its ``bands``.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from cupola.exceptions import InputError
from cupola.lab.chains.graph.arithmetic import Where
from cupola.lab.chains.graph.bands import Bands
from cupola.lab.chains.graph.base import STEPS, Step, sources_to_json
from cupola.lab.chains.graph.functions import Map
from cupola.lab.chains.graph.reduce import Reduce
from cupola.lab.chains.graph.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from cupola.lab.chains.functions import Function
    from cupola.lab.chains.graph.base import Value
    from cupola.lab.chains.graph.context import Context

__all__ = ["Line", "Program", "Section", "common_source", "compute", "from_json"]

S = TypeVar("S", bound=Step)

TYPE = "cupola-chain"
VERSION = 2
_MOST_LEVELS = 32
"""How often a chain may go over to another grid: each is computed within the one before."""


@dataclass(frozen=True)
class Line:
    """A step in a program: its inputs are the numbers (int) of earlier lines, or constants (float)."""

    step: Step
    inputs: tuple[int | float, ...]
    source: Source | None
    """The collection of whose items it has one image each; nothing for one image, as after a reduction."""

    @property
    def lines(self) -> list[int]:
        """Numbers of the lines it needs."""
        return [part for part in self.inputs if isinstance(part, int)]


def common_source(step: Step, sources: Iterable[Source | None]) -> Source | None:
    """Return the collection of whose items a step has one image each; nothing where it has one image.

    Raises
    ------
    InputError
        When it combines images of two collections item by item, or reduces what is one image already.
    """
    found = {source for source in sources if source is not None}
    if isinstance(step, Bands):
        return step.source
    if isinstance(step, Reduce):
        if not found:
            raise InputError(
                f"{step.how}() makes one image of many, and this chain is one image already: leave it out."
            )
        return None
    if len(found) > 1:
        names = " and ".join(sorted({source.reference["source"] for source in found}))
        raise InputError(
            f"Chains of different collections ({names}) cannot be combined item by item: make one image of each "
            "first, such as chain.mean() or chain.mosaic(), or open one collection that holds both."
        )
    return next(iter(found), None)


@dataclass(frozen=True)
class Section:
    """The lines that are computed on one grid for one of them: back to those that are fetched in another way."""

    target: int
    lines: tuple[int, ...]
    leaves: tuple[int, ...]
    halo: int
    """Pixels around a place that all steps together look at."""
    last_use: dict[int, int]
    source: Source | None


class Program:
    """The steps of a chain in the order of computing, equal ones once."""

    def __init__(self, last: Step) -> None:
        self.lines = tuple(_linearised(last))
        self._sections: dict[int, Section] = {}
        self._reads: dict[int, list[Bands]] = {}

    @property
    def last(self) -> int:
        """The number of the result."""
        return len(self.lines) - 1

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """The collections that are read, each once."""
        return tuple(dict.fromkeys(source for line in self.lines for source in line.step.sources))

    def bands(self, source: Source) -> tuple[str, ...]:
        """Return the names of the bands that are read of a collection, each once."""
        steps = (step for step in self.of_kind(Bands) if step.source == source)
        return tuple(dict.fromkeys(name for step in steps for name in step.names))

    @cached_property
    def shown(self) -> tuple[str, ...]:
        """Names of the bands that the result is made of, without those that only choose its pixels."""
        wanted = {self.last}
        for number in range(self.last, -1, -1):
            line = self.lines[number]
            if number in wanted:
                wanted.update(
                    line.lines[1:] if isinstance(line.step, Where) and line.lines[1:] else line.lines
                )
        steps = [line.step for number, line in enumerate(self.lines) if number in wanted]
        return tuple(dict.fromkeys(name for step in steps if isinstance(step, Bands) for name in step.names))

    @cached_property
    def functions(self) -> tuple[Function, ...]:
        """The person's own functions, in the order in which they run."""
        return tuple(step.function for step in self.of_kind(Map))

    @cached_property
    def halo(self) -> int:
        """How many pixels around a place all steps together look at."""
        reach: list[int] = []
        for line in self.lines:
            reach.append(line.step.halo + max((reach[number] for number in line.lines), default=0))
        return reach[-1]

    @property
    def source(self) -> Source | None:
        """The collection of whose items the result is one image each; nothing where it is one image."""
        return self.lines[-1].source

    def of_kind(self, kind: type[S]) -> list[S]:
        """Return the steps of a kind, in their order."""
        return [line.step for line in self.lines if isinstance(line.step, kind)]

    def reads(self, place: int) -> list[Bands]:
        """Return the steps that read bands, among those that a line stands on."""
        if place not in self._reads:
            wanted = {place}
            for number in range(place, -1, -1):
                if number in wanted:
                    wanted.update(self.lines[number].lines)
            steps = (self.lines[number].step for number in sorted(wanted))
            self._reads[place] = [step for step in steps if isinstance(step, Bands)]
        return self._reads[place]

    def section(self, target: int) -> Section:
        """Return the lines that are computed together for a line."""
        if target not in self._sections:
            self._sections[target] = _section(self.lines, target)
        return self._sections[target]

    def documents(self) -> list[dict[str, Any]]:
        """Return the steps as JSON can hold them; the last one is the result."""
        numbers = {source: number for number, source in enumerate(self.sources)}
        found: list[dict[str, Any]] = []
        for line in self.lines:
            document: dict[str, Any] = {"op": line.step.op, **line.step.options()}
            if line.step.sources:
                document["collection"] = numbers[line.step.sources[0]]
            if line.inputs:
                document["inputs"] = [_part(part) for part in line.inputs]
            found.append(document)
        return found

    def to_json(self) -> str:
        """Return the canonical JSON: equal chains give equal text."""
        document = {
            "type": TYPE,
            "version": VERSION,
            "collections": sources_to_json(self.sources),
            "steps": self.documents(),
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)

    def words(self) -> list[str]:
        """Say in one line for each step what it does, the result last."""
        names: list[str] = []
        told: list[str] = []
        for number, line in enumerate(self.lines, 1):
            parts = [names[part] if isinstance(part, int) else f"{part:g}" for part in line.inputs]
            told.append(f"{number}. {line.step.words(parts)}")
            names.append(f"({number})")
        return told

    def rebuilt(self, change: Callable[[Step], Step]) -> Step:
        """Return the last step of a chain like this one, in which `change` was made to each step."""
        import dataclasses

        made: list[Step] = []
        for line in self.lines:
            inputs = tuple(made[part] if isinstance(part, int) else part for part in line.inputs)
            made.append(change(dataclasses.replace(line.step, inputs=inputs)))
        return made[-1]


def compute(
    program: Program, section: Section, leaf: Callable[[int], NDArray[np.float32]], context: Context
) -> NDArray[np.float32]:
    """Compute the lines of a section on one grid.

    Parameters
    ----------
    program, section
        What to compute.
    leaf
        Returns the value of a line that is fetched in another way: float32 (bands, rows, columns).
    context
        Where the pixels lie, halo included.

    Returns
    -------
    values
        float32 (bands, rows, columns), halo included.

    Raises
    ------
    InputError
        When a function returns no image, or band counts do not fit.
    """
    import numpy as np

    values: dict[int, NDArray[np.float32]] = {}
    last_use = section.last_use
    for place in section.lines:
        line = program.lines[place]
        if line.step.leaf:
            values[place] = leaf(place)
            continue
        parts: list[Value] = []
        if not line.step.alone:
            parts = [values[part] if isinstance(part, int) else np.float32(part) for part in line.inputs]
        if line.step.writes:
            # A function may write into its arrays; nobody else may see that.
            kept = [isinstance(part, int) and last_use[part] > place for part in line.inputs]
            parts = [part.copy() if keep else part for part, keep in zip(parts, kept, strict=True)]
        values[place] = line.step.compute(parts, context)
        for number in _used(line):
            if last_use[number] == place:
                values.pop(number, None)  # windows are large: hold no result longer than it is used
    return values[section.target]


def _linearised(last: Step) -> list[Line]:
    """Return all steps, equal ones once, inputs before those that use them.

    Without recursion and with each step visited once: ``x = x + x`` thirty times over has 2^30 branches.
    """
    lines: list[Line] = []
    depth: list[int] = []
    by_content: dict[tuple[str, ...], int] = {}
    number: dict[int, int] = {}
    todo: list[tuple[Step, bool]] = [(last, False)]
    while todo:
        step, ready = todo.pop()
        if id(step) in number:
            continue
        if not ready:
            todo.append((step, True))
            todo.extend((part, False) for part in reversed(step.inputs) if isinstance(part, Step))
            continue
        inputs = tuple(number[id(part)] if isinstance(part, Step) else float(part) for part in step.inputs)
        # repr() keeps the constant 1.0 apart from line 1, and makes NaN equal to itself.
        content = (
            step.op,
            json.dumps(step.options(), sort_keys=True),
            repr(inputs),
            *(source.key for source in step.sources),
        )
        if content not in by_content:
            source = common_source(step, (lines[part].source for part in inputs if isinstance(part, int)))
            reach = max((depth[part] for part in inputs if isinstance(part, int)), default=0)
            reach += bool((step.leaf or step.alone) and inputs)
            if reach > _MOST_LEVELS:
                raise InputError(
                    f"This chain changes its scale or reduces more than {_MOST_LEVELS} times one inside another: "
                    "run its first part and go on from the products."
                )
            depth.append(reach)
            by_content[content] = len(lines)
            lines.append(Line(step, inputs, source))
        number[id(step)] = by_content[content]
    return lines


def _used(line: Line) -> list[int]:
    """Return the numbers of the lines whose values a line is computed from on the same grid."""
    return [] if line.step.leaf or line.step.alone else line.lines


def _section(lines: Sequence[Line], target: int) -> Section:
    wanted = {target}
    for place in range(target, -1, -1):
        if place in wanted:
            wanted.update(_used(lines[place]))
    order = tuple(sorted(wanted))
    reach: dict[int, int] = {}
    last_use: dict[int, int] = {}
    for place in order:
        line = lines[place]
        if line.step.leaf:
            reach[place] = 0
            continue
        used = _used(line)
        reach[place] = line.step.halo + max((reach[number] for number in used), default=0)
        last_use.update(dict.fromkeys(used, place))
    leaves = tuple(place for place in order if lines[place].step.leaf)
    return Section(target, order, leaves, reach[target], last_use, lines[target].source)


def _part(part: float) -> Any:
    """Return an input as the JSON has it."""
    if isinstance(part, int):
        return part
    return {"number": part if math.isfinite(part) else str(part)}


@lru_cache(maxsize=1)
def _load_families() -> None:
    """Enter all steps."""
    import cupola.lab.chains.graph  # noqa: F401 - each of its modules enters its own


def from_json(text: str | bytes) -> Step:
    """Return the last step of the chain that `Program.to_json` wrote. No function of it runs.

    Raises
    ------
    InputError
        When the text is no chain of a version known here.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError("This is no chain: it is no JSON.") from error
    if not isinstance(document, dict) or document.get("type") != TYPE:
        raise InputError("This is no chain: its type is not 'cupola-chain'.")
    version = document.get("version")
    if version not in (1, VERSION):
        raise InputError(f"This chain has version {version!r}; this Cupola reads versions 1 and {VERSION}.")
    listed = [document.get("collection")] if version == 1 else document.get("collections")
    if not isinstance(listed, list) or not listed:
        raise InputError("This chain does not say which collection it computes over.")
    sources = [Source(reference) for reference in listed]
    documents = document.get("steps")
    if not isinstance(documents, list) or not documents:
        raise InputError("This is no chain: it has no steps.")
    _load_families()
    steps: list[Step] = []
    for position, said in enumerate(documents):
        try:
            steps.append(_step(dict(said), steps, sources))
        except InputError as error:
            raise InputError(f"Step {position} of the chain is wrong: {error}") from error
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise InputError(f"Step {position} of the chain is wrong ({error}).") from error
    return steps[-1]


def _step(said: dict[str, Any], earlier: Sequence[Step], sources: Sequence[Source]) -> Step:
    op = said.pop("op")
    kind = STEPS.get(op) if isinstance(op, str) else None
    if kind is None:
        raise ValueError(f"there is no step {op!r} in this Cupola")
    inputs = tuple(_input(value, earlier) for value in said.pop("inputs", []))
    if kind is Bands:
        number = said.pop("collection", 0)
        if not isinstance(number, int) or not 0 <= number < len(sources):
            raise ValueError(f"there is no collection {number!r}")
        said["source"] = sources[number]
    elif not any(isinstance(part, Step) for part in inputs):
        raise ValueError(f"{op} needs an earlier step")
    if kind.arity is not None and len(inputs) != kind.arity:
        raise ValueError(f"{op} takes {kind.arity} input{'s'[: kind.arity > 1]}, not {len(inputs)}")
    return kind.made(inputs, said)


def _input(value: Any, earlier: Sequence[Step]) -> Step | float:
    if isinstance(value, dict):
        return float(value["number"])
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < len(earlier):
        raise ValueError(f"there is no earlier step {value!r}")
    return earlier[value]
