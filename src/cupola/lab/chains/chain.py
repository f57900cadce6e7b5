"""Chains: computations over a collection that run only where and when a viewport or a run asks."""

from __future__ import annotations

import hashlib
import html
import json
import operator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from typing_extensions import override

from cupola.exceptions import InputError
from cupola.lab.chains.functions import function_from
from cupola.lab.chains.steps import (
    UFUNCS,
    Bands,
    Map,
    Select,
    Ufunc,
    Where,
    bands_of,
    functions_of,
    halo_of,
    steps_from_json,
    steps_to_json,
)
from cupola.lab.collections.collection import Collection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import xarray

    from cupola.lab.bodies import Body
    from cupola.lab.chains.functions import Function
    from cupola.lab.chains.steps import Step
    from cupola.lab.jobs import Job
    from cupola.lab.jobs.options import Options

__all__ = ["Chain"]

_TYPE = "cupola-chain"
_VERSION = 1
_MAX_HALO = 512
"""Pixels; a wider neighbourhood would make every tile read many times its size."""


class Chain:
    """A computation over a collection. It is immutable: every operation returns a new chain.

    Values are physical, float32, NaN where there is no data. Chains of one collection can be added, compared
    and so on with one another and with numbers, and NumPy's pixel-by-pixel functions (``np.sqrt(chain)``)
    work as well. A comparison gives 1 and 0.
    """

    __slots__ = ("_collection", "_hash", "reference", "step")

    def __init__(self, step: Step, reference: dict[str, Any], collection: Collection | None = None) -> None:
        self.step = step
        self.reference = reference
        """Source, bbox and datetime of the collection, as in the JSON."""
        self._collection = collection
        self._hash: str | None = None

    @classmethod
    def of_bands(cls, collection: Collection, names: tuple[str, ...]) -> Chain:
        """Return the chain that reads these bands of a collection."""
        box = collection.bbox_filter
        reference = {
            "source": str(collection.source),
            "bbox": list(box) if box else None,
            "datetime": collection.datetime_filter,
        }
        return cls(Bands(names), reference, collection)

    # What it is

    @property
    def collection(self) -> Collection:
        """The collection it computes over, opened at first use.

        Raises
        ------
        NotFoundError
            When it is no longer where it was.
        """
        if self._collection is None:
            box, span = self.reference.get("bbox"), self.reference.get("datetime")
            self._collection = Collection(Path(self.reference["source"]), bbox=box, datetime=span)
        return self._collection

    @property
    def body(self) -> Body | None:
        """The celestial body of its collection; nothing for images without a coordinate system."""
        return self.collection.body

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands it reads."""
        return bands_of(self.step)

    @property
    def halo(self) -> int:
        """How many pixels around a place its steps look at, all together."""
        return halo_of(self.step)

    @property
    def functions(self) -> list[Function]:
        """The person's own functions in it."""
        return functions_of(self.step)

    def to_json(self) -> str:
        """Return the chain as canonical JSON (see `cupola.lab.chains.steps`): equal chains give equal text."""
        document = {
            "type": _TYPE,
            "version": _VERSION,
            "collection": self.reference,
            "steps": steps_to_json(self.step),
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Chain:
        """Return the chain that `to_json` wrote. No function of it runs, and nothing is unpickled yet.

        Raises
        ------
        InputError
            When the text is no chain of a version known here.
        """
        try:
            document = json.loads(text)
        except ValueError as error:
            raise InputError("This is no chain: it is no JSON.") from error
        if not isinstance(document, dict) or document.get("type") != _TYPE:
            raise InputError("This is no chain: its type is not 'cupola-chain'.")
        if document.get("version") != _VERSION:
            raise InputError(
                f"This chain has version {document.get('version')!r}; this Cupola reads version {_VERSION}."
            )
        reference = document.get("collection")
        if not isinstance(reference, dict) or not isinstance(reference.get("source"), str):
            raise InputError("This chain does not say which collection it computes over.")
        return cls(steps_from_json(document.get("steps")), reference)

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON, as 64 hexadecimal digits."""
        if self._hash is None:
            self._hash = hashlib.sha256(self.to_json().encode()).hexdigest()
        return self._hash

    @property
    def source(self) -> str:
        """The text of the functions in it, for people."""
        return "\n\n".join(function.source for function in self.functions if function.source)

    # What can be done with it

    def _next(self, step: Step) -> Chain:
        return Chain(step, self.reference, self._collection)

    def map(self, function: Callable[..., Any], *, halo: int = 0) -> Chain:
        """Apply a function to the bands.

        Parameters
        ----------
        function
            Takes one 2-D float32 array (rows, columns) per band, NaN where there is no data, and returns an array
            of the same shape, or (n, rows, columns), or a tuple of n arrays.
        halo
            How many pixels around each pixel it looks at (2 for a 5x5 filter): so much more is given to it on
            all sides, and taken off its result.

        Raises
        ------
        InputError
            When it is no function, or cannot be sent to another process.
        """
        if type(halo) is not int or not 0 <= halo <= _MAX_HALO:
            raise InputError(f"halo is a whole number of pixels from 0 to {_MAX_HALO}, not {halo!r}.")
        return self._next(Map(self.step, function_from(function), halo))

    def __getitem__(self, band: int | str) -> Chain:
        """Return one band, by its number (from 0) or, before any computation, by its name."""
        if isinstance(band, str):
            if not isinstance(self.step, Bands) or band not in self.step.names:
                known = self.step.names if isinstance(self.step, Bands) else ()
                hint = (
                    f"it has {', '.join(known)}" if known else "computed bands go by number, such as chain[0]"
                )
                raise InputError(f"The chain has no band {band!r}: {hint}.")
            return self._next(Bands((band,)))
        try:
            return self._next(Select(self.step, operator.index(band)))
        except TypeError as error:
            raise InputError(
                f"A chain's band is chosen by number, such as chain[0], not {band!r}."
            ) from error

    def __iter__(self) -> Any:
        raise TypeError("A chain's bands are chosen by number, such as chain[0]; it cannot be iterated.")

    def where(self, condition: Chain, other: Chain | float = float("nan")) -> Chain:
        """Return this where `condition` holds, `other` elsewhere, and NaN where the condition is unknown.

        Raises
        ------
        InputError
            When the condition is no chain of the same collection.
        """
        if not isinstance(condition, Chain):
            raise InputError("where() takes a condition made of chains, such as ndvi.where(ndvi > 0.3).")
        self._same_collection(condition)
        return self._next(Where(condition.step, self.step, self._part(other)))

    def clip(self, low: float, high: float) -> Chain:
        """Return values limited to `low` ... `high`."""
        return self._ufunc("minimum", self._ufunc("maximum", self, low), high)

    def _same_collection(self, other: Chain) -> None:
        if other.reference != self.reference:
            raise InputError(
                f"Chains of different collections ({self.reference['source']} and {other.reference['source']}) "
                "cannot be combined: open one collection that holds both."
            )

    def _part(self, value: Any) -> Step | float:
        if isinstance(value, Chain):
            self._same_collection(value)
            return value.step
        if isinstance(value, (bool, int, float, np.number, np.bool_)):
            return float(value)
        raise InputError(
            f"A chain can be combined with numbers and chains, not with {type(value).__name__}: use map() for arrays."
        )

    def _ufunc(self, name: str, *values: Any) -> Chain:
        return self._next(Ufunc(name, tuple(self._part(value) for value in values)))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Let ``np.sqrt(chain)`` and ``np.float32(2) * chain`` make chains."""
        if method != "__call__" or options or ufunc.__name__ not in UFUNCS:
            raise InputError(
                f"np.{ufunc.__name__} does not work on chains: use map() with a function that calls it."
            )
        return self._ufunc(ufunc.__name__, *inputs)

    def __add__(self, other: Any) -> Chain:
        return self._ufunc("add", self, other)

    def __radd__(self, other: Any) -> Chain:
        return self._ufunc("add", other, self)

    def __sub__(self, other: Any) -> Chain:
        return self._ufunc("subtract", self, other)

    def __rsub__(self, other: Any) -> Chain:
        return self._ufunc("subtract", other, self)

    def __mul__(self, other: Any) -> Chain:
        return self._ufunc("multiply", self, other)

    def __rmul__(self, other: Any) -> Chain:
        return self._ufunc("multiply", other, self)

    def __truediv__(self, other: Any) -> Chain:
        return self._ufunc("divide", self, other)

    def __rtruediv__(self, other: Any) -> Chain:
        return self._ufunc("divide", other, self)

    def __floordiv__(self, other: Any) -> Chain:
        return self._ufunc("floor_divide", self, other)

    def __mod__(self, other: Any) -> Chain:
        return self._ufunc("remainder", self, other)

    def __pow__(self, other: Any) -> Chain:
        return self._ufunc("power", self, other)

    def __rpow__(self, other: Any) -> Chain:
        return self._ufunc("power", other, self)

    def __neg__(self) -> Chain:
        return self._ufunc("negative", self)

    def __abs__(self) -> Chain:
        return self._ufunc("absolute", self)

    def __lt__(self, other: Any) -> Chain:
        return self._ufunc("less", self, other)

    def __le__(self, other: Any) -> Chain:
        return self._ufunc("less_equal", self, other)

    def __gt__(self, other: Any) -> Chain:
        return self._ufunc("greater", self, other)

    def __ge__(self, other: Any) -> Chain:
        return self._ufunc("greater_equal", self, other)

    @override
    def __eq__(self, other: object) -> Chain:  # type: ignore[override]
        return self._ufunc("equal", self, other)

    @override
    def __ne__(self, other: object) -> Chain:  # type: ignore[override]
        return self._ufunc("not_equal", self, other)

    def __and__(self, other: Any) -> Chain:
        return self._ufunc("logical_and", self, other)

    def __or__(self, other: Any) -> Chain:
        return self._ufunc("logical_or", self, other)

    def __invert__(self) -> Chain:
        return self._ufunc("logical_not", self)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise TypeError("A chain has no truth value before it is computed: combine conditions with & and |.")

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return Chain.from_json, (self.to_json(),)

    # Where it runs

    def compute(self, item: str | None = None, *, bbox: Iterable[float] | None = None) -> xarray.DataArray:
        """Compute over one item, or the part of it in a box, at full resolution into memory.

        Parameters
        ----------
        item
            Id of the item; the newest (that touches `bbox`) where nothing is said.
        bbox
            West, south, east, north in degrees; the whole item where nothing is said.

        Returns
        -------
        values
            float32 with the dimensions (band, y, x); `attrs` has ``item``, ``crs`` (WKT) and ``transform``.

        Raises
        ------
        NotFoundError
            When there is no such item, or none touches the box.
        LimitError
            When it is more than a kernel should hold.
        """
        from cupola.lab.chains.run import compute

        return compute(self, item, bbox=bbox)

    def run(
        self,
        name: str,
        *,
        dtype: str = "float32",
        scale: float | None = None,
        nodata: float | None = None,
        **options: Unpack[Options],
    ) -> Job:
        """Run over the whole collection at full resolution, as a job with one product per item.

        Products (a cloud-optimised GeoTIFF and a STAC item each) appear one by one in ``~/products/NAME``, or
        ``NAME-2`` when that is taken: see ``job.products``.

        Parameters
        ----------
        name
            For people, and for the folder.
        dtype, scale, nodata
            How values are stored: ``float32``, or for instance ``int16`` with scale 0.0001.
        **options
            Where and how the tasks run: ``engine``, ``cpus``, ``memory``, ``gpus``, ``time``, ``chunk``, ``retries``,
            ``after``, ``team`` and ``notify``, as for `cupola.map`.

        Raises
        ------
        InputError, BandError
            When the collection is empty, lacks the bands, or the types do not fit.
        UnavailableError
            When the platform does not answer.
        """
        from cupola.lab.chains.run import run

        return run(self, name, dtype=dtype, scale=scale, nodata=nodata, **options)

    # How it looks

    @property
    def label(self) -> str:
        """A short text for people: what it does last, and from which bands."""
        names = ", ".join(self.bands)
        match self.step:
            case Bands():
                return names
            case Map(function=function) if function.name != "<lambda>":
                return f"{function.name}({names})"
            case Map():
                return f"function of {names}"
            case Ufunc(name=name):
                return f"{name} of {names}"
            case _:
                return f"computed from {names}"

    @override
    def __repr__(self) -> str:
        return f"<Chain {self.label}; {Path(self.reference['source']).name}; {self.hash[:12]}>"

    def _repr_html_(self) -> str:
        code = f"<pre>{html.escape(self.source)}</pre>" if self.source else ""
        return (
            f"<div><strong>{html.escape(self.label)}</strong> over "
            f"{html.escape(Path(self.reference['source']).name)}: nothing is computed until it is shown on a "
            f"<code>Map</code> or <code>.run()</code> over the whole collection.{code}"
            f"<small>chain {self.hash[:12]}</small></div>"
        )
