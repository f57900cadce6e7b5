"""openEO process graphs as chains; see `writing` for what is understood."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cupola.exceptions import InputError, NotFoundError
from cupola.lab.chains.graph.bands import Bands
from cupola.lab.chains.graph.source import Source
from cupola.lab.chains.openeo.numbers import NUMBERS, Labelled, OverTime, Property, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cupola.lab.chains.analysis.zonal import Zonal
    from cupola.lab.chains.chain import Chain

__all__ = ["from_openeo"]

_TIME = {"t", "time", "temporal"}
_BANDS = {"bands", "band", "spectral"}
_METHODS = {"near": "nearest", "bilinear": "bilinear", "cubic": "cubic", "average": "average", "mode": "mode"}
_PASSED = {"save_result", "rename_dimension", "drop_dimension"}
_REDUCERS = {"mean", "median", "min", "max", "sum", "count", "first", "last"}


@dataclass(frozen=True)
class _Cube:
    """A data cube: a chain, and the labels of its bands; none after that dimension was reduced."""

    chain: Chain
    labels: tuple[str, ...] | None

    @property
    def bands(self) -> list[Chain]:
        """One chain for each band."""
        if self.labels is None or len(self.labels) == 1:
            return [self.chain]
        return [self.chain[number] for number in range(len(self.labels))]


def from_openeo(graph: Mapping[str, Any], collections: Mapping[str, Any] | None = None) -> Chain | Zonal:
    """Return the chain that a process graph describes; see `Chain.from_openeo`."""
    nodes = graph.get("process", graph).get("process_graph", graph) if isinstance(graph, dict) else None
    if not isinstance(nodes, dict) or not nodes:
        raise InputError("This is no openEO process graph: it has no nodes.")
    made = _Reader(dict(collections or {})).result(nodes, {})
    if isinstance(made, _Cube):
        return made.chain
    if hasattr(made, "compute") and hasattr(made, "statistics"):
        return made  # type: ignore[no-any-return]
    raise InputError("The result of this openEO process graph is no data cube.")


class _Reader:
    """Reads one graph and its callbacks."""

    def __init__(self, collections: dict[str, Any]) -> None:
        self.collections = collections

    def result(self, nodes: Mapping[str, Any], parameters: Mapping[str, Value]) -> Value:
        """Return the value of a graph's result, computed without recursion over its nodes.

        Raises
        ------
        InputError
            When the graph is none, or asks for what chains cannot do.
        """
        last = [name for name, node in nodes.items() if isinstance(node, dict) and node.get("result")]
        if len(last) != 1:
            raise InputError(
                f'An openEO process graph has one node with "result": true, and this has {len(last)}.'
            )
        values: dict[str, Value] = {}
        todo, waiting = [last[0]], set()
        while todo:
            name = todo[-1]
            node = nodes.get(name)
            if not isinstance(node, dict) or not isinstance(node.get("process_id"), str):
                raise InputError(f"The openEO process graph has no node {name!r}.")
            arguments = node.get("arguments") or {}
            missing = [other for other in _needs(arguments) if other not in values]
            if missing:
                if name in waiting:
                    raise InputError(f"The nodes of the openEO process graph go in a circle at {name!r}.")
                waiting.add(name)
                todo.extend(missing)
                continue
            todo.pop()
            if name not in values:
                values[name] = self._node(
                    node["process_id"], _put_in(arguments, values, parameters), parameters
                )
        return values[last[0]]

    def _node(self, process: str, said: dict[str, Value], parameters: Mapping[str, Value]) -> Value:
        of_cubes = _CUBES.get(process)
        try:
            if of_cubes is not None:
                return of_cubes(self, said)
            if process in NUMBERS:
                return NUMBERS[process](said)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise InputError(
                f"The arguments of the openEO process {process} cannot be understood ({error})."
            ) from error
        del parameters
        raise InputError(
            f"Cupola's chains have nothing like the openEO process {process}: leave it out of the graph."
        )

    def callback(self, said: Value, **parameters: Value) -> Value:
        """Return what a callback makes of its parameters."""
        if not isinstance(said, dict) or not isinstance(said.get("process_graph"), dict):
            raise InputError("A callback of the openEO process graph has no process_graph.")
        return self.result(said["process_graph"], parameters)

    # Processes of cubes

    def load_collection(self, said: dict[str, Value]) -> _Cube:
        from cupola.lab import collections
        from cupola.lab.chains.chain import Chain as Made

        name = str(said["id"])
        if name not in self.collections:
            raise NotFoundError(
                f"The openEO process graph reads the collection {name!r}: say which one it is with "
                f"collections={{{name!r}: cupola.open(...)}}."
            )
        given = self.collections[name]
        collection = collections.open(given) if not hasattr(given, "items") else given
        box, span = _box(said.get("spatial_extent")), _span(said.get("temporal_extent"))
        query = " and ".join(
            _condition(self, key, value) for key, value in (said.get("properties") or {}).items()
        )
        if box is not None or span is not None or query:
            collection = collection.filter(bbox=box, datetime=span, query=query or None)
        bands = tuple(str(band) for band in said.get("bands") or _all_bands(collection))
        return _Cube(Made.of_bands(collection, bands), bands)

    def filter_bands(self, said: dict[str, Value]) -> _Cube:
        cube, wanted = said["data"], [str(band) for band in said["bands"]]
        labels = cube.labels or ()
        missing = [band for band in wanted if band not in labels]
        if missing:
            raise InputError(
                f"filter_bands asks for {missing[0]}, and the cube has {', '.join(labels) or 'no bands'}."
            )
        step = cube.chain.step
        if isinstance(step, Bands) and step.names == labels:
            return _Cube(cube.chain._next(replace(step, names=tuple(wanted))), tuple(wanted))  # noqa: SLF001 - of the family
        return _Cube(_together([cube.bands[labels.index(band)] for band in wanted]), tuple(wanted))

    def filter_extent(self, said: dict[str, Value]) -> _Cube:
        cube = said["data"]
        box, span = _box(said.get("extent")) if isinstance(said.get("extent"), dict) else None, None
        if box is None:
            span = _span(said.get("extent"))

        def change(step: Any) -> Any:
            if not isinstance(step, Bands):
                return step
            return replace(step, source=Source.of(step.source.collection.filter(bbox=box, datetime=span)))

        return _Cube(type(cube.chain).of_step(cube.chain.program.rebuilt(change)), cube.labels)

    def reduce_dimension(self, said: dict[str, Value]) -> _Cube:
        cube, dimension = said["data"], str(said["dimension"])
        if dimension in _BANDS:
            made = self.callback(said["reducer"], data=Labelled(cube.bands, cube.labels))
            return _Cube(_as_chain(made, cube), None)
        if dimension not in _TIME:
            raise InputError(f"Chains have the dimensions t and bands, and this graph reduces {dimension!r}.")
        made = self.callback(said["reducer"], data=OverTime(cube.chain))
        return _Cube(_as_chain(made, cube), cube.labels)

    def apply(self, said: dict[str, Value]) -> _Cube:
        cube = said["data"]
        return _Cube(_as_chain(self.callback(said["process"], x=cube.chain), cube), cube.labels)

    def apply_dimension(self, said: dict[str, Value]) -> _Cube:
        cube, dimension = said["data"], str(said["dimension"])
        if dimension not in _BANDS:
            raise InputError(f"apply_dimension goes over bands in chains, not over {dimension!r}.")
        made = self.callback(said["process"], data=Labelled(cube.bands, cube.labels))
        listed = [_as_chain(one, cube) for one in (made if isinstance(made, list) else [made])]
        return _Cube(_together(listed), tuple(str(number) for number in range(len(listed))))

    def merge_cubes(self, said: dict[str, Value]) -> _Cube:
        one, other = said["cube1"], said["cube2"]
        if said.get("overlap_resolver") is not None:
            made = self.callback(said["overlap_resolver"], x=one.chain, y=other.chain)
            return _Cube(_as_chain(made, one), one.labels or other.labels)
        labels = (*(one.labels or ("0",)), *(other.labels or ("1",)))
        if len(set(labels)) < len(labels):
            raise InputError("merge_cubes needs an overlap_resolver here: both cubes have the same bands.")
        return _Cube(_together([one.chain, other.chain]), labels)

    def mask(self, said: dict[str, Value]) -> _Cube:
        cube, other = said["data"], said.get("replacement")
        hidden = said["mask"].chain
        return _Cube(cube.chain.where(hidden == 0, math.nan if other is None else other), cube.labels)

    def ndvi(self, said: dict[str, Value]) -> _Cube:
        cube = said["data"]
        labels = cube.labels or ()
        near, red = (
            _common(labels, said.get(name), usual)
            for name, usual in (("nir", ("nir", "B08", "B8A")), ("red", ("red", "B04")))
        )
        nir, visible = cube.bands[near], cube.bands[red]
        found = (nir - visible) / (nir + visible)
        target = said.get("target_band")
        if target:
            return _Cube(_together([*cube.bands, found]), (*labels, str(target)))
        return _Cube(found, None)

    def apply_kernel(self, said: dict[str, Value]) -> _Cube:
        if said.get("border", 0) != 0 or said.get("replace_invalid", 0) != 0:
            raise InputError(
                "apply_kernel takes neighbours without data for 0 in chains: leave border and replace_invalid at 0."
            )
        cube = said["data"]
        return _Cube(cube.chain.convolve(said["kernel"], factor=float(said.get("factor", 1))), cube.labels)

    def resample_spatial(self, said: dict[str, Value]) -> _Cube:
        cube, resolution = said["data"], said.get("resolution", 0)
        size = resolution[0] if isinstance(resolution, list) else resolution
        if said.get("projection") is not None:
            raise InputError(
                "A chain's projection is that of whoever asks: leave projection out of resample_spatial."
            )
        chain = cube.chain
        method = str(said.get("method", "near"))
        if method not in _METHODS:
            raise InputError(f"Chains have no resampling {method!r}; there is {', '.join(_METHODS)}.")
        if _METHODS[method] not in ("nearest", "average"):
            chain = chain.resample(_METHODS[method])
        return _Cube(chain.at(size) if size else chain, cube.labels)

    def labels(self, said: dict[str, Value]) -> _Cube:
        target = tuple(str(label) for label in said["target"])
        if len(target) != len(said["data"].labels or ()):
            raise InputError("rename_labels names all bands of a cube.")
        return self.passed({"data": replace(said["data"], labels=target)})

    def add_dimension(self, said: dict[str, Value]) -> _Cube:
        return self.passed({"data": replace(said["data"], labels=(str(said.get("label", "0")),))})

    def passed(self, said: dict[str, Value]) -> _Cube:
        cube: _Cube = said["data"]
        return cube

    def aggregate_spatial(self, said: dict[str, Value]) -> Zonal:
        cube = said["data"]
        nodes = [node["process_id"] for node in said["reducer"]["process_graph"].values()]
        name = next((one for one in nodes if one in _REDUCERS), None)
        if "quantiles" in nodes:
            (quantiles,) = (
                node
                for node in said["reducer"]["process_graph"].values()
                if node["process_id"] == "quantiles"
            )
            name = f"percentile_{quantiles['arguments']['probabilities'][0] * 100:g}"
        if name is None or name in ("first", "last"):
            raise InputError(f"Statistics in regions have no reducer {', '.join(nodes)}.")
        made: Zonal = cube.chain.zonal(said["geometries"], name, by_area=False)
        return made


def _needs(value: Any) -> list[str]:
    if isinstance(value, dict):
        if "process_graph" in value:
            return []
        if isinstance(value.get("from_node"), str):
            return [value["from_node"]]
        return [name for part in value.values() for name in _needs(part)]
    return [name for part in value for name in _needs(part)] if isinstance(value, list) else []


def _put_in(value: Any, nodes: Mapping[str, Value], parameters: Mapping[str, Value]) -> Any:
    """Put values into arguments where they refer to nodes and parameters."""
    if isinstance(value, dict) and "process_graph" not in value:
        if "from_node" in value:
            return nodes[value["from_node"]]
        if "from_parameter" in value:
            if value["from_parameter"] not in parameters:
                raise InputError(
                    f"The openEO process graph has a parameter {value['from_parameter']!r} that nobody gives."
                )
            return parameters[value["from_parameter"]]
        return {name: _put_in(part, nodes, parameters) for name, part in value.items()}
    return [_put_in(part, nodes, parameters) for part in value] if isinstance(value, list) else value


def _all_bands(collection: Any) -> list[str]:
    """Return the names of single bands, also of those that one file holds together."""
    item = collection.items[0]
    names: list[str] = []
    for name in collection.bands:
        found = item.band(name)
        fields = item.images[name].fields if name in item.images else {}
        said = [str(one.get("name", "")) for one in fields.get("bands") or fields.get("eo:bands") or []]
        if len(found) == 1:
            names.append(name)
        elif len(said) == len(found) and all(said):
            names += said
        else:
            names += [band.name.rpartition(":")[2] for band in found]
    return names


def _together(chains: list[Chain]) -> Chain:
    return chains[0] if len(chains) == 1 else chains[0].stack(*chains[1:])


def _as_chain(value: Value, cube: _Cube) -> Chain:
    """Return a chain for what a callback made; a number becomes an image of it."""
    if isinstance(value, (int, float)) or value is None:
        return cube.bands[0] * 0 + (math.nan if value is None else float(value))
    if not hasattr(value, "program"):
        raise InputError("A callback of the openEO process graph gives no number.")
    return value  # type: ignore[no-any-return]


def _common(labels: tuple[str, ...], said: Any, usual: tuple[str, ...]) -> int:
    for name in (str(said),) if said else usual:
        if name in labels:
            return labels.index(name)
    raise InputError(
        f"ndvi needs a band {' or '.join((str(said),) if said else usual)}, and the cube has {', '.join(labels)}."
    )


def _box(extent: Any) -> tuple[float, float, float, float] | None:
    if not extent:
        return None
    if not isinstance(extent, dict) or "west" not in extent:
        raise InputError(
            "The spatial extent of an openEO process graph is west, south, east and north in degrees."
        )
    if extent.get("crs") not in (None, 4326, "EPSG:4326"):
        raise InputError("The spatial extent of an openEO process graph is read in degrees (EPSG:4326) only.")
    west, south, east, north = (float(extent[name]) for name in ("west", "south", "east", "north"))
    return west, south, east, north


def _span(extent: Any) -> str | None:
    """Return a time span from openEO's, whose end does not belong to it."""
    if not extent:
        return None
    first, last = (None if end is None else _moment(str(end)) for end in extent)
    if first is not None and last is not None:
        for text in (f"{first:%Y}", f"{first:%Y-%m}", f"{first:%Y-%m-%d}"):
            from cupola.lab.collections.interval import parse_interval

            if parse_interval(text) == (first, last):
                return text
    midnight = dt.time(0)
    if all(end is None or end.time() == midnight for end in (first, last)):
        until = ".." if last is None else f"{last - dt.timedelta(days=1):%Y-%m-%d}"
        return f"{'..' if first is None else f'{first:%Y-%m-%d}'}/{until}"
    until = ".." if last is None else (last - dt.timedelta(microseconds=1)).isoformat()
    return f"{'..' if first is None else first.isoformat()}/{until}"


def _moment(text: str) -> dt.datetime:
    moment = dt.datetime.fromisoformat(text)
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


def _condition(reader: _Reader, name: str, said: Value) -> str:
    """Return a condition on a property as text."""
    return str(reader.callback(said, value=Property(name)))


_CUBES: dict[str, Callable[[_Reader, dict[str, Value]], Value]] = {
    "load_collection": _Reader.load_collection,
    "filter_bands": _Reader.filter_bands,
    "filter_bbox": _Reader.filter_extent,
    "filter_temporal": _Reader.filter_extent,
    "reduce_dimension": _Reader.reduce_dimension,
    "apply": _Reader.apply,
    "apply_dimension": _Reader.apply_dimension,
    "merge_cubes": _Reader.merge_cubes,
    "mask": _Reader.mask,
    "ndvi": _Reader.ndvi,
    "apply_kernel": _Reader.apply_kernel,
    "resample_spatial": _Reader.resample_spatial,
    "rename_labels": _Reader.labels,
    "add_dimension": _Reader.add_dimension,
    "aggregate_spatial": _Reader.aggregate_spatial,
    **dict.fromkeys(_PASSED, _Reader.passed),
}
"""Processes of data cubes, by name."""
