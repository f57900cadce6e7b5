"""The map of the sky in a notebook."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import anywidget
import traitlets
from typing_extensions import override

from cupola.exceptions import InputError, NotFoundError
from cupola.lab.chains import Chain
from cupola.lab.maps.layers import as_chain, base_url
from cupola.lab.sky import places
from cupola.lab.sky.catalogues import Catalogue, is_table
from cupola.lab.sky.layers import SkyLayer, check_sky, sources
from cupola.lab.sky.looks import DEFAULT_CMAP
from cupola.lab.tiles.styles import Style, gradient

if TYPE_CHECKING:
    from collections.abc import Callable

    from cupola.lab.collections import Collection
    from cupola.lab.jobs import Job

__all__ = ["SkyMap"]

HERE = Path(__file__).parent
SCRIPTS = ("../../maps/js/told.js", "plain.js", "layers.js", "sky.js")
"""Files of ``js/``, which make one module together; what pictures tell is read as maps of bodies read it."""
COLOURS = ("#ffcc33", "#4fc3f7", "#ff8a65", "#aed581", "#ba68c8", "#f06292")
"""Of catalogues and footprints, in turn."""
CMAPS = ("gray", "gray_r", "viridis", "inferno", "magma", "cividis", "hot", "rdbu_r", "spectral_r")
PROJECTIONS = ("SIN", "TAN", "ZEA", "AIT", "MOL", "MER", "STG")
MOST_FOOTPRINTS = 20_000

Limit = float | list[float] | tuple[float, ...] | None


class SkyMap(anywidget.AnyWidget):
    """A map of the sky on which chains over celestial images are computed for what is in view.

    Tiles come from the session's server, and so does Aladin Lite, which draws them: nothing outside of the session is
    asked unless a survey or a name from outside is wanted. The map works while the kernel is busy.

    Parameters
    ----------
    survey
        A public survey below the layers by its identifier at the CDS, such as ``CDS/P/DSS2/color``; none by default.
    center
        Right ascension and declination in degrees, or a name; the first layer's middle where nothing is said.
    fov
        Width of the view in degrees.
    projection
        ``SIN``, ``TAN``, ``ZEA``, ``AIT``, ``MOL``, ``MER`` or ``STG``.
    grid
        Whether the grid of coordinates is drawn.
    height
        Of the map, as CSS.

    Attributes
    ----------
    center, fov
        Where the map looks, as it is in the browser.
    clicked
        The place that was clicked last: right ascension and declination.
    selection
        Rows of the sources that were selected, by name of the catalogue.

    Raises
    ------
    InputError
        There is no such projection, or the place is none.
    NotFoundError
        Nobody knows the name.
    """

    _esm: ClassVar[str] = "\n".join((HERE / "js" / name).read_text("utf-8") for name in SCRIPTS)
    _css = HERE / "sky.css"

    base = traitlets.Unicode().tag(sync=True)
    height = traitlets.Unicode("480px").tag(sync=True)
    center = traitlets.Tuple(traitlets.Float(), traitlets.Float(), default_value=(0.0, 0.0)).tag(sync=True)
    fov = traitlets.Float(180.0).tag(sync=True)
    projection = traitlets.Unicode("SIN").tag(sync=True)
    grid = traitlets.Bool(default_value=True).tag(sync=True)
    survey = traitlets.Unicode("").tag(sync=True)
    placed = traitlets.Bool(default_value=False).tag(sync=True)
    """Whether somebody chose where the map looks."""
    layers = traitlets.List(traitlets.Dict()).tag(sync=True)
    catalogues = traitlets.List(traitlets.Dict()).tag(sync=True)
    footprints = traitlets.List(traitlets.Dict()).tag(sync=True)
    places = traitlets.Dict().tag(sync=True)
    cmaps = traitlets.Dict().tag(sync=True)
    clicked = traitlets.List(traitlets.Float()).tag(sync=True)
    picked = traitlets.Dict().tag(sync=True)
    selection_rows = traitlets.Dict().tag(sync=True)

    _watcher: Any = None

    def __init__(  # noqa: PLR0913 - what a map may be made with
        self,
        *,
        survey: str | None = None,
        center: tuple[float, float] | str | None = None,
        fov: float | None = None,
        projection: str = "SIN",
        grid: bool = True,
        height: str = "480px",
    ) -> None:
        from cupola.lab.maps.watch import Watcher

        if projection not in PROJECTIONS:
            raise InputError(
                f"There is no projection {projection!r}; choose one of {', '.join(PROJECTIONS)}."
            )
        self._layers: list[SkyLayer] = []
        self._catalogues: dict[str, Catalogue] = {}
        self._count = 0
        options: dict[str, Any] = {}
        if center is not None:
            ra, dec, field = _place(center)
            options = {"center": (ra, dec), "fov": fov or field, "placed": True}
        elif fov is not None:
            options = {"fov": fov}
        super().__init__(
            base=base_url(),
            survey=survey or "",
            projection=projection,
            grid=grid,
            height=height,
            places={name: list(place) for name, place in places.known().items()},
            cmaps={name: gradient(name) for name in CMAPS},
            **options,
        )
        self.observe(self._taken, "layers")
        self._watcher = Watcher(self)

    @override
    def close(self) -> None:
        """End the map."""
        if self._watcher is not None:
            self._watcher.stop()
        super().close()

    def _next(self, kind: str) -> str:
        self._count += 1
        return f"{kind}-{self._count}"

    def add(  # noqa: PLR0913 - what a layer may be drawn by
        self,
        item: Chain | Collection | Job | Any,
        *,
        cmap: str = DEFAULT_CMAP,
        vmin: Limit = None,
        vmax: Limit = None,
        scale: str = "linear",
        name: str | None = None,
        opacity: float = 1.0,
        unit: str = "",
        exact: bool = False,
        **options: Any,
    ) -> SkyMap:
        """Put a layer on top, or in the place of the one of that name.

        Parameters
        ----------
        item
            A chain, a collection, a job (its products), the path of a FITS file or folder; or a table of sources, which
            becomes a catalogue (see `add_catalogue` for further `options`).
        cmap
            Colours of a single band.
        vmin, vmax
            The values that get the first and the last colour, once or per band; percentiles of the whole where nothing is
            said.
        scale
            Between the limits: ``linear``, ``sqrt``, ``log`` or ``asinh``.
        name
            For the list of layers.
        opacity
            From 0 to 1.
        unit
            Of the values, for the legend.
        exact
            Whether each pixel is computed at full resolution in any field of view, below a pixel budget.

        Returns
        -------
        SkyMap
            The map itself.

        Raises
        ------
        BodyError
            The images show a body, or have no celestial coordinates.
        InputError
            It cannot be shown, there is no such colour map or scale, or the limits are wrong.
        """
        if _tabular(item):
            return self.add_catalogue(item, name=name, **options)
        if options:
            raise InputError(
                f"A layer of images has no option {next(iter(options))!r}; catalogues may have it."
            )
        if isinstance(item, (str, Path)):
            from cupola.lab.collections import open as open_collection

            item = open_collection(str(item))
        chain = as_chain(item)
        check_sky(chain)
        style = Style(cmap, _limits("vmin", vmin), _limits("vmax", vmax), scale)
        style.check()
        old = self._named(chain, name)
        identity = old.id if old is not None else self._next("layer")
        title = name or (old.name if old is not None else self._free(chain.label))
        layer = SkyLayer(chain, style, identity=identity, name=title, opacity=opacity, unit=unit, exact=exact)
        if old is None:
            self._layers.append(layer)
        else:
            self._layers[self._layers.index(old)] = layer
        self._tell()
        return self

    def _named(self, chain: Chain, name: str | None) -> SkyLayer | None:
        """Return the layer whose place a new one takes: a cell that is run again must not pile up layers."""
        for layer in self._layers:
            if layer.name == name or (name is None and layer.hash == chain.hash):
                return layer
        return None

    def _free(self, label: str) -> str:
        """Return a label that no layer has."""
        names = {layer.name for layer in self._layers}
        free, number = label, 2
        while free in names:
            free, number = f"{label} ({number})", number + 1
        return free

    def remove(self, name: str | Chain) -> SkyMap:
        """Take away the layer, catalogue or footprints of a name, or a chain.

        Raises
        ------
        NotFoundError
            There is none.
        """
        for layer in self._layers:
            if layer.name == name or (isinstance(name, Chain) and layer.hash == name.hash):
                self._layers.remove(layer)
                self._tell()
                return self
        for trait in ("catalogues", "footprints"):
            entries = getattr(self, trait)
            kept = [entry for entry in entries if entry["name"] != name]
            if len(kept) < len(entries):
                setattr(self, trait, kept)
                self._catalogues = {
                    key: value for key, value in self._catalogues.items() if value.name != name
                }
                return self
        names = [layer.name for layer in self._layers]
        names += [entry["name"] for entry in (*self.catalogues, *self.footprints)]
        raise NotFoundError(f"The map has no layer {name!r}; it has: {', '.join(names) or 'none'}.")

    def order(self, *names: str) -> SkyMap:
        """Lay layers over one another in this order, the lowest first; layers that are not named stay above.

        Raises
        ------
        NotFoundError
            There is no layer of such a name.
        """
        by_name = {layer.name: layer for layer in self._layers}
        for name in names:
            if name not in by_name:
                raise NotFoundError(f"The map has no layer {name!r}; it has: {', '.join(by_name) or 'none'}.")
        first = [by_name[name] for name in names]
        self._layers = first + [layer for layer in self._layers if layer not in first]
        self._tell()
        return self

    def add_catalogue(  # noqa: PLR0913 - what a catalogue may be drawn by
        self,
        table: Any,
        *,
        name: str | None = None,
        ra: str | None = None,
        dec: str | None = None,
        colour: str | None = None,
        shape: str = "circle",
        size: int = 10,
    ) -> SkyMap:
        """Put sources over the images; a click shows a source's row, and `selected` gives rows back.

        Parameters
        ----------
        table
            An astropy Table, a pandas DataFrame, or the path of a VOTable, CSV, ECSV, Parquet or FITS table.
        name
            For the list; a catalogue of that name is replaced.
        ra, dec
            Columns with the position; found by UCD or name where nothing is said.
        colour, shape, size
            How sources are drawn; `shape` is circle, square, rhomb, plus, cross or triangle, `size` in pixels.

        Returns
        -------
        SkyMap
            The map itself.

        Raises
        ------
        InputError
            It is no table, or its position is not found.
        """
        if name is None:
            name = (
                Path(table).stem
                if isinstance(table, (str, Path))
                else f"catalogue {len(self.catalogues) + 1}"
            )
        known = {entry["name"]: entry["id"] for entry in self.catalogues}
        made = Catalogue(
            table,
            name=name,
            identity=known.get(name) or self._next("catalogue"),
            ra=ra,
            dec=dec,
            colour=colour or COLOURS[len(self.catalogues) % len(COLOURS)],
            shape=shape,
            size=size,
        )
        self._catalogues[made.id] = made
        self.catalogues = [entry for entry in self.catalogues if entry["id"] != made.id] + [made.to_json()]
        return self

    def add_footprints(
        self, collection: Any, *, name: str | None = None, colour: str | None = None
    ) -> SkyMap:
        """Draw the outlines of a collection's images.

        Raises
        ------
        BodyError
            The images show no sky.
        InputError
            There are more than a map shows.
        """
        from cupola.lab.sky.outlines import outlines

        chain = as_chain(collection)
        check_sky(chain)
        items = [item for found in sources(chain) for item in found.items]
        if len(items) > MOST_FOOTPRINTS:
            raise InputError(
                f"The collection has {len(items):,} items, more than the {MOST_FOOTPRINTS:,} outlines a map shows; filter it."
            )
        name = name or f"outlines of {getattr(collection, 'id', None) or chain.label}"
        entry = {
            "id": self._next("outlines"),
            "name": name,
            "colour": colour or COLOURS[(len(self.footprints) + 1) % len(COLOURS)],
            "polygons": outlines(items),
        }
        entry["key"] = entry["id"]
        self.footprints = [known for known in self.footprints if known["name"] != name] + [entry]
        return self

    def go(self, place: str | tuple[float, float] | Any, fov: float | None = None) -> SkyMap:
        """Look at a place.

        Parameters
        ----------
        place
            Right ascension and declination in degrees, a SkyCoord, or a name: of the map's own list, or else one that the
            name service of the CDS knows, if it can be reached.
        fov
            Width of the view in degrees.

        Raises
        ------
        NotFoundError
            Nobody knows the name.
        InputError
            It is no place.
        """
        ra, dec, field = _place(place)
        with self.hold_sync():
            self.center, self.placed = (ra, dec), True
            if fov is not None or isinstance(place, str):
                self.fov = float(fov or field)
        return self

    def probe(self, ra: float, dec: float) -> dict[str, Any]:
        """Return the values of all visible layers at a place, by name of the layer; `on_click` brings places."""
        from cupola.lab.chains.compute import evaluate

        return {layer.name: evaluate.probe(layer.chain, ra, dec) for layer in self._layers if layer.visible}

    def on_click(self, react: Callable[[float, float], Any]) -> None:
        """Call ``react(ra, dec)`` with each place that is clicked."""
        self.observe(lambda change: change["new"] and react(*change["new"]), "clicked")

    def on_select(self, react: Callable[[dict[str, Any]], Any]) -> None:
        """Call ``react(selected)`` with the tables of selected rows, by name of the catalogue."""
        self.observe(lambda _: react(self.selected), "selection_rows")

    @property
    def selected(self) -> dict[str, Any]:
        """The rows that are selected, as an astropy Table by name of the catalogue."""
        found = {}
        for identity, rows in self.selection_rows.items():
            if identity in self._catalogues:
                catalogue = self._catalogues[identity]
                found[catalogue.name] = catalogue.table[[int(row) for row in rows]]
        return found

    def refresh(self) -> None:
        """Look again at the layers' files: what changed since is drawn. Happens by itself."""
        for layer in self._layers:
            for collection in sources(layer.chain):
                collection.refresh()
            layer.look()
        self._tell()

    def _tell(self) -> None:
        """Tell the browser which layers there are."""
        self.layers = [layer.to_json() for layer in self._layers]
        if self._watcher is not None:
            self._watcher.watch(self._layers)

    def _taken(self, change: dict[str, Any]) -> None:
        """Take over what was chosen in the browser."""
        known = {layer.id: layer for layer in self._layers}
        told = [entry for entry in change["new"] if entry.get("id") in known]
        for entry in told:
            known[entry["id"]].take(entry)
        if len(told) == len(known):
            self._layers = [known[entry["id"]] for entry in told]


def _tabular(item: Any) -> bool:
    """Tell whether something is a table of sources."""
    if isinstance(item, (str, Path)):
        return Path(item).is_file() and is_table(item)
    return hasattr(item, "colnames") or (hasattr(item, "iloc") and hasattr(item, "columns"))


def _place(place: Any) -> tuple[float, float, float]:
    """Return right ascension, declination and a field of view in degrees."""
    if isinstance(place, str):
        return places.place(place)
    if hasattr(place, "icrs"):
        return float(place.icrs.ra.deg), float(place.icrs.dec.deg), 1.0
    try:
        ra, dec = (float(value) for value in place)
    except (TypeError, ValueError):
        raise InputError(
            f"A place is a name, or right ascension and declination in degrees, not {place!r}."
        ) from None
    if not (math.isfinite(ra) and math.isfinite(dec) and abs(dec) <= 90):  # noqa: PLR2004 - a pole
        raise InputError(f"A declination lies between -90 and 90 degrees, not {dec!r}.")
    return ra % 360.0, dec, 1.0


def _limits(name: str, value: Limit) -> tuple[float, ...]:
    """Return limits as numbers, one or one per band."""
    if value is None:
        return ()
    try:
        numbers = tuple(float(part) for part in (value if isinstance(value, (list, tuple)) else (value,)))
    except (TypeError, ValueError):
        raise InputError(f"{name} is a number, or a list of one per band, not {value!r}.") from None
    if not all(math.isfinite(number) for number in numbers):
        raise InputError(f"{name} is a finite number, not {value!r}.")
    return numbers
