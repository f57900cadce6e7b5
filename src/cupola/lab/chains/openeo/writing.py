"""Chains as openEO process graphs (https://processes.openeo.org, version 2), as far as both mean the same.

What can be written: bands of collections with their filters, arithmetic and mathematics, choices and masks, reductions over
time, differences of periods, linear neighbourhoods, scales (`at`), statistics in regions. Everything else is refused by
name. `reading` reads graphs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cupola.exceptions import InputError
from cupola.lab.chains.graph.arithmetic import Ufunc, Where
from cupola.lab.chains.graph.bands import Bands, Select, Stack
from cupola.lab.chains.graph.kernel import Kernel
from cupola.lab.chains.graph.masks import IsIn
from cupola.lab.chains.graph.reduce import Reduce
from cupola.lab.chains.graph.scale import At
from cupola.lab.chains.openeo.callbacks import WAY_OUT, Expression, Graph, expression, numeric, written

if TYPE_CHECKING:
    from cupola.lab.chains.analysis.zonal import Zonal
    from cupola.lab.chains.chain import Chain
    from cupola.lab.chains.graph.base import Step
    from cupola.lab.chains.graph.source import Source

__all__ = ["to_openeo", "zonal_graph"]

_REDUCERS = {"mean", "median", "min", "max", "sum", "count", "first", "last"}


@dataclass(frozen=True)
class _Value:
    """What a step is worth: expressions over the bands of a cube; without a cube, numbers."""

    cube: str | None
    """Name of a node of the main graph."""
    bands: tuple[Expression, ...]
    width: int
    """How many bands the cube has; 0 where it has no such dimension."""


def to_openeo(chain: Chain) -> dict[str, Any]:
    """Return a chain as the process graph of openEO; see `Chain.to_openeo`."""
    return _Writer(chain).graph()


def zonal_graph(zonal: Zonal) -> dict[str, Any]:
    """Return statistics in regions as a process graph; see `Zonal.to_openeo`."""
    import json

    (name, *more) = zonal.statistics
    known = name in {"mean", "median", "min", "max", "sum", "count"} or name.startswith("percentile_")
    if more or not known:
        raise InputError(
            "openEO's aggregate_spatial makes one of mean, median, min, max, sum, count and percentiles at a time: ask for one."
        )
    if zonal.by_item or (zonal.by_area and name == "mean"):
        raise InputError(
            "openEO's aggregate_spatial counts pixels of all images: say by=None and by_area=False."
        )
    writer = _Writer(zonal.chain)
    data = writer.cube(writer.last())
    reducer = Graph()
    whole = {"from_parameter": "data"}
    if name.startswith("percentile_"):
        listed = reducer.add(
            "quantiles", data=whole, probabilities=[float(name.removeprefix("percentile_")) / 100]
        )
        result = reducer.add("array_element", data=listed, index=0)
    else:
        result = reducer.add(name, data=whole)
    regions = json.loads(zonal.regions.to_json(drop_id=True))
    done = writer.main.add(
        "aggregate_spatial",
        data=data,
        geometries=regions,
        reducer={"process_graph": reducer.finished(result)},
    )
    return {"process_graph": writer.main.finished(done)}


class _Writer:
    """Writes one chain."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.main = Graph()
        self.values: list[_Value] = []
        self.names: dict[str, str] = {}
        # All bands of a collection are loaded together, so that they can be computed with in one callback.
        self.loaded: dict[str, list[str]] = {}
        for step in chain.program.of_kind(Bands):
            known = self.loaded.setdefault(step.source.key, [])
            known.extend(name for name in step.names if name not in known)
        self.labels: dict[str, list[str]] = {}

    def graph(self) -> dict[str, Any]:
        """Return the whole graph."""
        return {"process_graph": self.main.finished(self.cube(self.last()))}

    def last(self) -> _Value:
        """Return the value of the chain's last step."""
        for line in self.chain.program.lines:
            parts = [self.values[part] if isinstance(part, int) else _constant(part) for part in line.inputs]
            self.values.append(self._value(line.step, parts))
        return self.values[-1]

    def _value(self, step: Step, parts: list[_Value]) -> _Value:
        if isinstance(step, Bands):
            return self._bands(step)
        if isinstance(step, Select):
            (part,) = parts
            return _Value(part.cube, (part.bands[step.index],), part.width)
        if isinstance(step, Reduce):
            return self._plain(
                self.main.add(
                    "reduce_dimension",
                    data=self.cube(parts[0]),
                    dimension="t",
                    reducer=_over_time(step, parts[0]),
                ),
                parts[0],
            )
        if isinstance(step, At):
            node = self.main.add(
                "resample_spatial", data=self.cube(parts[0]), resolution=step.metres, method="average"
            )
            return self._plain(node, parts[0])
        if isinstance(step, Kernel):
            kernel = [list(row) for row in step.weights]
            node = self.main.add("apply_kernel", data=self.cube(parts[0]), kernel=kernel, factor=step.factor)
            return self._plain(node, parts[0])
        if isinstance(step, (Ufunc, Where, IsIn, Stack)):
            return self._pointwise(step, parts)
        raise _refused(step)

    def _bands(self, step: Bands) -> _Value:
        if step.resampling not in (None, "nearest"):
            raise InputError(
                f"openEO chooses resampling only together with a scale, so resample({step.resampling!r}) cannot be exported: "
                f"{WAY_OUT}."
            )
        if step.saturated is not None:
            raise InputError(
                f"openEO knows no saturated pixels, so keep_saturated() cannot be exported: {WAY_OUT}."
            )
        names = self.loaded[step.source.key]
        node = self.main.add(
            "load_collection", id=self._id(step.source), bands=names, **_extents(step.source)
        )
        self.labels[node["from_node"]] = names
        bands = tuple(Expression("band", number=names.index(name)) for name in step.names)
        return _Value(node["from_node"], bands, len(names))

    def _id(self, source: Source) -> str:
        """Return a name for a collection, the same for its periods and another for each place."""
        place = source.reference["source"]
        if place not in self.names:
            name, number = source.name, 2
            while name in self.names.values():
                name, number = f"{source.name}-{number}", number + 1
            self.names[place] = name
        return self.names[place]

    @staticmethod
    def _plain(node: dict[str, str], like: _Value) -> _Value:
        """Return the bands of a node as they are; a cube of one band has no such dimension any more."""
        count = len(like.bands)
        width = 0 if count == 1 else count
        return _Value(node["from_node"], tuple(Expression("band", number=n) for n in range(count)), width)

    def _pointwise(self, step: Step, parts: list[_Value]) -> _Value:
        cubes = {part.cube for part in parts if part.cube is not None}
        if len(cubes) > 1:
            parts = self._brought(step, parts)
        cube = next(part.cube for part in parts if part.cube is not None)
        width = next(part.width for part in parts if part.cube is not None)
        if isinstance(step, Stack):
            return _Value(cube, tuple(band for part in parts for band in part.bands), width)
        count = max(len(part.bands) for part in parts)
        if any(len(part.bands) not in (1, count) for part in parts):
            raise InputError(
                "Chains of different numbers of bands cannot be combined: choose one band of each."
            )
        bands = tuple(
            expression(step, tuple(part.bands[n if len(part.bands) > 1 else 0] for part in parts))
            for n in range(count)
        )
        return _Value(cube, bands, width)

    def _brought(self, step: Step, parts: list[_Value]) -> list[_Value]:
        """Put the bands of several cubes into one, and return the parts in its terms."""
        merged, offsets, total = None, {}, 0
        for number, part in enumerate(parts):
            if part.cube is None:
                continue
            labels = [f"b{total + n}" for n in range(len(part.bands))]
            node = self._labelled(part, labels)
            merged = node if merged is None else self.main.add("merge_cubes", cube1=merged, cube2=node)
            offsets[number], total = total, total + len(part.bands)
        if merged is None:
            raise _refused(step)
        return [
            _Value(
                merged["from_node"],
                tuple(Expression("band", number=offsets[number] + n) for n in range(len(part.bands))),
                total,
            )
            if number in offsets
            else part
            for number, part in enumerate(parts)
        ]

    def _labelled(self, part: _Value, labels: list[str]) -> dict[str, str]:
        """Return a node whose bands have these labels, so that two of them lie side by side when they are merged."""
        node = self.cube(part)
        if len(part.bands) == 1:
            return self.main.add("add_dimension", data=node, name="bands", label=labels[0], type="bands")
        return self.main.add("rename_labels", data=node, dimension="bands", target=labels)

    def cube(self, value: _Value) -> dict[str, str]:
        """Return a node that holds a value: its expressions are written as a callback over the bands."""
        if value.cube is None:
            raise InputError("A chain of numbers alone has nothing to compute over.")
        node = {"from_node": value.cube}
        count = len(value.bands)
        as_they_are = [band.kind == "band" and band.number == n for n, band in enumerate(value.bands)]
        if all(as_they_are) and (count == value.width > 1 or (value.width == 0 and count == 1)):
            return node
        if value.cube in self.labels and count > 1 and all(band.kind == "band" for band in value.bands):
            chosen = [self.labels[value.cube][int(band.number)] for band in value.bands]
            if len(set(chosen)) == count:
                return self.main.add("filter_bands", data=node, bands=chosen)
        callback = Graph()
        if value.width == 0:
            # No dimension of bands: pixel by pixel.
            bands = [written(callback, band, {"from_parameter": "x"}) for band in value.bands]
            if count == 1:
                return self.main.add(
                    "apply",
                    data=node,
                    process={"process_graph": callback.finished(numeric(callback, value.bands[0], bands[0]))},
                )
            node = self.main.add("add_dimension", data=node, name="bands", label="b0", type="bands")
            callback = Graph()
        found = [numeric(callback, band, written(callback, band, None)) for band in value.bands]
        if count == 1:
            return self.main.add(
                "reduce_dimension",
                data=node,
                dimension="bands",
                reducer={"process_graph": callback.finished(found[0])},
            )
        result = callback.add("array_create", data=found)
        return self.main.add(
            "apply_dimension",
            data=node,
            dimension="bands",
            process={"process_graph": callback.finished(result)},
        )


def _refused(step: Step) -> InputError:
    function = getattr(step, "function", None)
    if function is not None:
        return InputError(
            f"The Python function {function.name} of map() has no place in an openEO graph: write it with arithmetic, or {WAY_OUT}."
        )
    return InputError(f"openEO has no process for {step.op.replace('_', ' ')}: {WAY_OUT}.")


def _constant(number: float) -> _Value:
    return _Value(None, (Expression("number", number=number),), 0)


def _over_time(step: Reduce, part: _Value) -> dict[str, Any]:
    """Return the callback of a reduction."""
    graph, data = Graph(), {"from_parameter": "data"}
    how = step.how
    if how == "percentile":
        listed = graph.add("quantiles", data=data, probabilities=[(step.q or 0.0) / 100])
        return {"process_graph": graph.finished(graph.add("array_element", data=listed, index=0))}
    if how == "mosaic" and len(part.bands) == 1:
        how = "last"
    if how not in _REDUCERS:
        reason = "which divides by n - 1" if how == "std" else "of several bands"
        raise InputError(f"openEO has no reducer like {step.how} ({reason}): {WAY_OUT}.")
    return {"process_graph": graph.finished(graph.add(how, data=data))}


def _extents(source: Source) -> dict[str, Any]:
    """Return the filters of a collection as arguments of load_collection."""
    from cupola.lab.collections.conditions import Both, Compare
    from cupola.lab.collections.interval import parse_interval
    from cupola.lab.collections.query import parse_query

    said = source.reference
    arguments: dict[str, Any] = {"spatial_extent": None, "temporal_extent": None}
    if said["bbox"]:
        arguments["spatial_extent"] = dict(zip(("west", "south", "east", "north"), said["bbox"], strict=True))
    if said["datetime"]:
        ends = parse_interval(said["datetime"])
        arguments["temporal_extent"] = [
            None if end is None else end.isoformat().replace("+00:00", "Z") for end in ends
        ]
    unknown = {
        name for name, value in said.items() if value and name not in ("source", "bbox", "datetime", "query")
    }
    if said["query"]:
        condition = parse_query(said["query"])
        properties: dict[str, Any] = {}
        for part in condition.parts if isinstance(condition, Both) else (condition,):
            signs = {"=": "eq", "<>": "neq", "<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
            if not isinstance(part, Compare) or part.sign not in signs or part.name in properties:
                unknown.add("query")
                break
            graph = Graph()
            result = graph.add(signs[part.sign], x={"from_parameter": "value"}, y=part.value)
            properties[part.name] = {"process_graph": graph.finished(result)}
        arguments["properties"] = properties
    if unknown:
        raise InputError(
            f"openEO has no filter like {', '.join(sorted(unknown))} of {source.name}: leave it out, or filter by single "
            "comparisons such as query='eo:cloud_cover < 20'."
        )
    return arguments
