"""Callbacks of openEO process graphs: expressions over the bands of a pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cupola.exceptions import InputError
from cupola.lab.chains.graph.arithmetic import Where
from cupola.lab.chains.graph.masks import IsIn

if TYPE_CHECKING:
    from cupola.lab.chains.graph.base import Step

__all__ = [
    "COMPARISONS",
    "SAME",
    "WAY_OUT",
    "Argument",
    "Expression",
    "Graph",
    "expression",
    "numeric",
    "written",
]

SAME = {
    "add": "add", "subtract": "subtract", "multiply": "multiply", "divide": "divide", "absolute": "absolute",
    "fabs": "absolute", "sqrt": "sqrt", "exp": "exp", "log": "ln", "sin": "sin", "cos": "cos", "tan": "tan",
    "arcsin": "arcsin", "arccos": "arccos", "arctan": "arctan", "sinh": "sinh", "cosh": "cosh", "tanh": "tanh",
    "floor": "floor", "ceil": "ceil", "trunc": "int", "sign": "sgn", "remainder": "mod",
}  # fmt: skip
"""NumPy's functions and the processes that compute the same of ``x`` (and ``y``)."""
COMPARISONS = {
    "less": "lt",
    "less_equal": "lte",
    "greater": "gt",
    "greater_equal": "gte",
    "equal": "eq",
    "not_equal": "neq",
}
_LOGICAL = {"logical_and": "and", "logical_or": "or", "logical_xor": "xor"}
WAY_OUT = "export the chain before it, and do the rest where the result arrives"

Argument = Any
"""A reference to a node, a number, or nothing."""


class Graph:
    """Nodes of a process graph under construction; equal nodes are written once."""

    def __init__(self) -> None:
        self.nodes: dict[str, dict[str, Any]] = {}
        self._known: dict[str, str] = {}

    def add(self, process: str, /, **arguments: Any) -> dict[str, str]:
        """Add a node and return the reference to it."""
        node = {"process_id": process, "arguments": arguments}
        key = repr(node)
        if key not in self._known:
            number = sum(1 for one in self.nodes.values() if one["process_id"] == process) + 1
            self._known[key] = f"{process.replace('_', '')}{number}"
            self.nodes[self._known[key]] = node
        return {"from_node": self._known[key]}

    def finished(self, result: Argument) -> dict[str, Any]:
        """Return the nodes that `result` stands on, it marked as such."""
        if not isinstance(result, dict) or "from_node" not in result:
            result = (
                self.add("add", x=0, y=result)
                if not isinstance(result, dict)
                else self.add("add", x=result, y=0)
            )
        wanted = {result["from_node"]}
        for name in reversed(self.nodes):
            if name in wanted:
                wanted.update(_references(self.nodes[name]["arguments"]))
        nodes = {name: dict(node) for name, node in self.nodes.items() if name in wanted}
        nodes[result["from_node"]]["result"] = True
        return nodes


def _references(value: Any) -> set[str]:
    """Return the nodes that arguments name; those of callbacks are their own."""
    if isinstance(value, dict):
        if "from_node" in value:
            return {value["from_node"]}
        if "process_graph" in value:
            return set()
        value = list(value.values())
    if isinstance(value, list):
        return {name for part in value for name in _references(part)}
    return set()


@dataclass(frozen=True)
class Expression:
    """One band of a value, in terms of the bands of a cube."""

    kind: str
    """``band``, ``number``, or the name of a function or of a choice."""
    parts: tuple[Expression, ...] = ()
    number: float = 0.0
    boolean: bool = False


def expression(step: Step, parts: tuple[Expression, ...]) -> Expression:
    """Return a pointwise step over expressions."""
    if isinstance(step, Where):
        return Expression("where", parts)
    if isinstance(step, IsIn):
        return Expression(
            "isin", (*parts, *(Expression("number", number=value) for value in step.values)), boolean=True
        )
    name = str(getattr(step, "name", ""))
    boolean = name in COMPARISONS or name in _LOGICAL or name in ("logical_not", "isnan")
    return Expression(name, parts, boolean=boolean)


def written(graph: Graph, wanted: Expression, pixel: Argument | None) -> Argument:
    """Write an expression into a callback, without recursion: chains may be thousands of steps long.

    `pixel` is the value itself where there is no array of bands.
    """
    done: dict[int, Argument] = {}
    todo = [wanted]
    while todo:
        one = todo[-1]
        missing = [part for part in one.parts if id(part) not in done]
        if missing:
            todo.extend(missing)
            continue
        todo.pop()
        if id(one) not in done:
            done[id(one)] = _node(graph, one, [done[id(part)] for part in one.parts], pixel)
    return done[id(wanted)]


def _node(graph: Graph, one: Expression, given: list[Argument], pixel: Argument | None) -> Argument:  # noqa: C901, PLR0911, PLR0912 - one case per process
    if one.kind == "band":
        whole = {"from_parameter": "data"}
        return pixel if pixel is not None else graph.add("array_element", data=whole, index=int(one.number))
    if one.kind == "number":
        return one.number if math.isfinite(one.number) else _not_finite(graph, one.number)
    if one.kind in _LOGICAL or one.kind == "logical_not":
        truths = [_truth(graph, part, value) for part, value in zip(one.parts, given, strict=True)]
        if one.kind == "logical_not":
            return graph.add("not", x=truths[0])
        return graph.add(_LOGICAL[one.kind], x=truths[0], y=truths[1])
    if one.kind == "where":
        return _choice(graph, one, given)
    numbers = [numeric(graph, part, value) for part, value in zip(one.parts, given, strict=True)]
    first = numbers[0]
    if one.kind in COMPARISONS:
        return graph.add(COMPARISONS[one.kind], x=first, y=numbers[1])
    if one.kind in SAME:
        return graph.add(SAME[one.kind], **dict(zip("xy", numbers, strict=False)))
    if one.kind in ("minimum", "maximum"):
        return graph.add(one.kind[:3], data=numbers, ignore_nodata=False)
    if one.kind in ("fmin", "fmax"):
        return graph.add(one.kind[1:], data=numbers)
    match one.kind:
        case "positive":
            return first
        case "negative":
            return graph.add("multiply", x=first, y=-1)
        case "square":
            return graph.add("power", base=first, p=2)
        case "power":
            return graph.add("power", base=first, p=numbers[1])
        case "exp2":
            return graph.add("power", base=2, p=first)
        case "log10" | "log2":
            return graph.add("log", x=first, base=10 if one.kind == "log10" else 2)
        case "arctan2":
            return graph.add("arctan2", y=first, x=numbers[1])
        case "rint":
            return graph.add("round", x=first)
        case "degrees" | "radians":
            factor = 180 / math.pi if one.kind == "degrees" else math.pi / 180
            return graph.add("multiply", x=first, y=factor)
        case "floor_divide":
            return graph.add("floor", x=graph.add("divide", x=first, y=numbers[1]))
        case "isnan":
            return graph.add("is_nodata", x=first)
        case "isin":
            answer = graph.add("eq", x=first, y=numbers[1])
            for number in numbers[2:]:
                answer = graph.add("or", x=answer, y=graph.add("eq", x=first, y=number))
            return answer
    raise InputError(f"openEO has no process for {one.kind}: {WAY_OUT}.")


def _not_finite(graph: Graph, number: float) -> Argument:
    """Return missing data, or an infinity, which JSON has no number for."""
    if math.isnan(number):
        return None
    return graph.add("divide", x=math.copysign(1, number), y=0)


def _truth(graph: Graph, part: Expression, value: Argument) -> Argument:
    return value if part.boolean else graph.add("neq", x=value, y=0)


def numeric(graph: Graph, part: Expression, value: Argument) -> Argument:
    """Return 1 and 0 for yes and no, where a number is wanted; what is unknown stays so."""
    if not part.boolean:
        return value
    if part.kind == "isnan":
        return graph.add("if", value=value, accept=1, reject=0)
    known = graph.add("if", value=value, accept=1, reject=0)
    return graph.add("if", value=graph.add("is_nodata", x=value), accept=None, reject=known)


def _choice(graph: Graph, one: Expression, given: list[Argument]) -> Argument:
    condition, accept, reject = given
    chosen, other = (
        numeric(graph, part, value) for part, value in zip(one.parts[1:], (accept, reject), strict=True)
    )
    truth = _truth(graph, one.parts[0], condition)
    choice = graph.add("if", value=truth, accept=chosen, reject=other)
    if other is None:
        return choice
    # Where the condition is unknown, so is the result.
    return graph.add("if", value=graph.add("is_nodata", x=condition), accept=None, reject=choice)
