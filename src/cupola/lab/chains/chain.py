"""Chains: computations over collections that run only where and when a viewport or a run asks."""

from __future__ import annotations

import hashlib
import html
import operator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack

from typing_extensions import override

from cupola.exceptions import BodyError, InputError
from cupola.lab.chains.functions import function_from
from cupola.lab.chains.graph.bands import Bands, Select
from cupola.lab.chains.graph.functions import MAX_HALO, Map
from cupola.lab.chains.graph.program import Program, from_json
from cupola.lab.chains.graph.source import Source
from cupola.lab.chains.methods import (
    Areas,
    Arithmetic,
    Exchange,
    Masks,
    Planetary,
    Reductions,
    Scale,
    Terrain,
)
from cupola.lab.collections.wording import capital

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import xarray

    from cupola.lab.bodies import Body
    from cupola.lab.chains.compute.probing import Area, Probe
    from cupola.lab.chains.functions import Function
    from cupola.lab.chains.graph.base import Step
    from cupola.lab.collections.collection import Collection
    from cupola.lab.jobs import Job
    from cupola.lab.jobs.options import Options

__all__ = ["Chain"]

_SHOWN = 40
"""Most steps that a chain tells of itself."""


@dataclass(frozen=True, eq=False, repr=False)
class Chain(Arithmetic, Masks, Reductions, Scale, Terrain, Planetary, Areas, Exchange):
    """A computation over a collection. It is immutable: every operation returns a new chain.

    Values are physical, float32, NaN where there is no data. Chains of one collection can be added, compared
    and so on with one another and with numbers, and NumPy's pixel-by-pixel functions (``np.sqrt(chain)``)
    work as well. A comparison gives 1 and 0. A chain is one image for each item until a reduction such as
    ``mean()`` or ``mosaic()`` makes one image of them all; those can be combined whatever collection they are of.
    """

    step: Step
    """Its last step; those before it are the inputs."""
    per_item: Source | None
    """The collection of whose items it has one image each; nothing where it is one image."""

    @classmethod
    def of_bands(cls, collection: Collection, names: tuple[str, ...]) -> Chain:
        """Return the chain that reads these bands of a collection."""
        source = Source.of(collection)
        return cls(Bands((), source, names), source)

    @classmethod
    def of_step(cls, step: Step) -> Chain:
        """Return the chain whose result is a step.

        Raises
        ------
        InputError
            When steps stand on images that cannot be combined.
        """
        program = Program(step)
        chain = cls(step, program.source)
        chain.__dict__["program"] = program
        return chain

    # What it is

    @cached_property
    def program(self) -> Program:
        """Its steps in the order of computing."""
        return Program(self.step)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The collections that it reads, as its JSON names them."""
        return self.program.sources

    @property
    def reference(self) -> dict[str, Any]:
        """Source, bbox, datetime and query of its first collection, as in the JSON."""
        return self.sources[0].reference

    @property
    @override
    def collection(self) -> Collection:
        """The collection it computes over, opened at first use; the first where there are several.

        Raises
        ------
        NotFoundError
            When it is no longer where it was.
        """
        return (self.per_item or self.sources[0]).collection

    @property
    def collections(self) -> list[Collection]:
        """All collections that it reads."""
        return [source.collection for source in self.sources]

    @property
    def reduced(self) -> bool:
        """Whether it is one image rather than one for each item."""
        return self.per_item is None

    @property
    @override
    def body(self) -> Body | None:
        """The celestial body of its collection; nothing for images without a coordinate system.

        Raises
        ------
        BodyError
            When its collections show different bodies.
        """
        found = self.collection.body
        paths = {source.reference["source"]: source for source in self.sources}
        # Periods of one collection are two sources of one path, and need no look.
        for source in paths.values() if found is not None and len(paths) > 1 else ():
            other = source.collection.body
            if other is not None and found is not None and other.name != found.name:
                raise BodyError(
                    f"{capital(self.collection)} shows {found.name} and {source.collection} shows {other.name}: "
                    "images of different bodies cannot be computed together."
                )
        return found

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands it reads of its collection; of the first where there are several."""
        return self.program.bands(self.per_item or self.sources[0])

    @property
    def halo(self) -> int:
        """How many pixels around a place its steps look at, all together."""
        return self.program.halo

    @property
    def functions(self) -> list[Function]:
        """The person's own functions in it."""
        return list(self.program.functions)

    def to_json(self) -> str:
        """Return the chain as canonical JSON (see `cupola.lab.chains.graph.program`): equal chains give equal text."""
        return self.program.to_json()

    @classmethod
    def from_json(cls, text: str | bytes) -> Chain:
        """Return the chain that `to_json` wrote. No function of it runs, and nothing is unpickled yet.

        Raises
        ------
        InputError
            When the text is no chain of a version known here.
        """
        return cls.of_step(from_json(text))

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON, as 64 hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def source(self) -> str:
        """The text of the functions in it, for people."""
        return "\n\n".join(function.source for function in self.functions if function.source)

    @override
    def _made(self, step: Step, per_item: Source | None) -> Chain:
        return Chain(step, per_item)

    @override
    def _rebuilt(self, change: Callable[[Step], Step]) -> Chain:
        return Chain.of_step(self.program.rebuilt(change))

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return Chain.from_json, (self.to_json(),)

    # What can be done with it

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
        if type(halo) is not int or not 0 <= halo <= MAX_HALO:
            raise InputError(f"halo is a whole number of pixels from 0 to {MAX_HALO}, not {halo!r}.")
        return self._next(Map((self.step,), function_from(function), halo))

    def __getitem__(self, band: int | str) -> Chain:
        """Return one band, by its number (from 0) or, before any computation, by its name."""
        if isinstance(band, str):
            if not isinstance(self.step, Bands) or band not in self.step.names:
                known = self.step.names if isinstance(self.step, Bands) else ()
                hint = (
                    f"it has {', '.join(known)}" if known else "computed bands go by number, such as chain[0]"
                )
                raise InputError(f"The chain has no band {band!r}: {hint}.")
            return self._next(replace(self.step, names=(band,)))
        try:
            return self._next(Select((self.step,), operator.index(band)))
        except TypeError as error:
            raise InputError(
                f"A chain's band is chosen by number, such as chain[0], not {band!r}."
            ) from error

    def __iter__(self) -> Any:
        raise TypeError("A chain's bands are chosen by number, such as chain[0]; it cannot be iterated.")

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
        from cupola.lab.chains.runs.run import compute

        return compute(self, item, bbox=bbox)

    def probe(self, longitude: float, latitude: float) -> Probe:
        """Return the values at a place, and those of each item there: its time series.

        Parameters
        ----------
        longitude, latitude
            In degrees of the body (right ascension and declination on the sky), at full resolution; column and row for
            images without a coordinate system.

        Raises
        ------
        InputError
            When they are no numbers.
        """
        from cupola.lab.chains.compute.probing import probe

        return probe(self, longitude, latitude)

    def area(self, geometry: Any, *, metres: float | None = None) -> Area:
        """Return statistics in an area: of what a map shows, and of each item for a time series.

        Parameters
        ----------
        geometry
            A polygon as GeoJSON or shapely's, in degrees of the body; in columns and rows for images without a
            coordinate system. `zonal` takes many regions at once.
        metres
            Size of the pixels on the ground; where nothing is said the images' own, or larger for a large area.

        Raises
        ------
        InputError
            When it is no area, or the size no positive number.
        LimitError
            When there are too many pixels of this size.
        """
        from cupola.lab.chains.compute.probing import area

        return area(self, geometry, metres)

    def run(  # noqa: PLR0913 - what can be said of a run, each with a default that fits
        self,
        name: str,
        *,
        dtype: str = "float32",
        scale: float | None = None,
        nodata: float | None = None,
        grid: str | None = None,
        resolution: float | None = None,
        bbox: Iterable[float] | None = None,
        piece: int | None = None,
        resume: bool = False,
        **options: Unpack[Options],
    ) -> Job:
        """Run over the whole collection at full resolution, as a job with one product per item.

        A chain that makes one image of its items (``mean()``, ``mosaic()`` ...) is written in pieces of a grid instead,
        as is any chain for which `grid`, `resolution`, `bbox` or `piece` is given: its items then lie over one another,
        the newest on top. Products (a cloud-optimised GeoTIFF and a STAC item each) appear one by one in
        ``~/products/NAME``, or ``NAME-2`` when that is taken: see ``job.products``.

        Parameters
        ----------
        name
            For people, and for the folder.
        dtype, scale, nodata
            How values are stored: ``float32``, or for instance ``int16`` with scale 0.0001. No data is NaN, or the
            far end of a type's range where nothing is said: the lowest of ``int16``, the highest of ``uint8``.
        grid
            The coordinate system of a composite, such as ``EPSG:32629``, ``IAU_2015:30135`` or ``Moon2015spolar``. Where
            nothing is said: that of the images where all share one, else metres of their body, equirectangular, or polar
            stereographic around a pole.
        resolution
            Metres per pixel of a composite; that of the finest band where nothing is said.
        bbox
            West, south, east, north in degrees that a composite covers; all items where nothing is said.
        piece
            Rows and columns of each file of a composite, 4096 where nothing is said.
        resume
            Whether to go on with the run of the same name and chain: what is whole and whose inputs have not changed
            stays as it is.
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
        from cupola.lab.chains.runs.run import run

        return run(
            self,
            name,
            dtype=dtype,
            scale=scale,
            nodata=nodata,
            grid=grid,
            resolution=resolution,
            bbox=bbox,
            piece=piece,
            resume=resume,
            **options,
        )

    # How it looks

    @property
    def label(self) -> str:
        """A short text for people: what it does last, and from which bands."""
        return self.step.label(", ".join(self.program.shown))

    def explain(self) -> str:
        """Return its steps in words, one line each; numbers in brackets are those of earlier lines."""
        told = self.program.words()
        left_out = len(told) - _SHOWN
        if left_out > 0:
            half = _SHOWN // 2
            told = [*told[:half], f"... {left_out} more steps ...", *told[-half:]]
        return "\n".join(told)

    @override
    def __repr__(self) -> str:
        names = ", ".join(dict.fromkeys(source.name for source in self.sources))
        return f"<Chain {self.label}; {names}; {self.hash[:12]}>"

    def _repr_html_(self) -> str:
        names = ", ".join(dict.fromkeys(source.name for source in self.sources))
        code = f"<pre>{html.escape(self.source)}</pre>" if self.source else ""
        kind = "one image of all items" if self.reduced else "one image for each item"
        return (
            f"<div><strong>{html.escape(self.label)}</strong> over {html.escape(names)}, {kind}: nothing is computed "
            "until it is shown on a <code>Map</code> or <code>.run()</code> over the whole collection."
            f"<details><summary>Steps</summary><pre>{html.escape(self.explain())}</pre></details>{code}"
            f"<small>chain {self.hash[:12]}</small></div>"
        )
