"""A collection: items of one kind, from which chains start."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from typing_extensions import override

from cupola.exceptions import BandError, BodyError, CupolaError, InputError, NotAllowedError, NotFoundError
from cupola.lab.collections import index
from cupola.lab.collections.conditions import TIMES
from cupola.lab.collections.footprint import Box, check_box
from cupola.lab.collections.images import local_path
from cupola.lab.collections.interval import parse_interval
from cupola.lab.collections.query import and_also, circle_text, parse_query
from cupola.lab.collections.records import NEVER
from cupola.lab.collections.remote import is_address
from cupola.lab.collections.scan import Found, scan
from cupola.lab.collections.table import Items, around, moment_of
from cupola.lab.collections.wording import capital, near

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime as Moment  # noqa: N812 - Collection.filter takes a datetime

    from numpy.typing import NDArray

    from cupola.lab.bodies import Body
    from cupola.lab.chains.chain import Chain
    from cupola.lab.collections.conditions import Condition
    from cupola.lab.collections.items import Item
    from cupola.lab.collections.stac_api import Wish

__all__ = ["Collection"]

_SHOWN = 8
"""Most items and bands that a notebook's cell lists."""
_COMPARED = 20_000
"""Most ids that a wrong one is compared with."""
_FIRST = 20
"""How many items are asked for their bands."""


class _State(NamedTuple):
    found: Found
    passed: NDArray[np.bool_]
    items: Items


class Collection:
    """Images of one kind and what is known of them. Nothing is read until a viewport or a run asks.

    ``collection["B04", "B08"]`` starts a chain from these bands, ``collection[["B04"]]`` likewise;
    ``len``, ``in`` and iteration go over the items, the newest first.

    Parameters
    ----------
    source
        A folder, a STAC document or an image file; or the address of a collection on a server, of a prefix of an object
        store or of a list of files.
    bbox
        Only items that touch west, south, east, north (degrees; west > east across the antimeridian).
    datetime
        Only items of this time, such as ``2020-02`` or ``2020-02-01/..``.
    query
        Only items with such properties, such as ``"eo:cloud_cover < 20 and platform = 'sentinel-2a'"``.
    """

    def __init__(  # noqa: PLR0913 - the conditions, and what is known already
        self,
        source: Path | str,
        *,
        bbox: Iterable[float] | None = None,
        datetime: str | None = None,
        query: str | Mapping[str, Any] | None = None,
        progress: Callable[[int, int], object] | None = None,
        found: Found | None = None,
    ) -> None:
        self.source: Path | str = source
        self.query_filter = None if query is None else str(parse_query(query))
        """In its canonical text; the circle and the id that were asked for are part of it."""
        self.bbox_filter: Box | None = None if bbox is None else check_box(bbox)
        self.datetime_filter = datetime
        self._interval = parse_interval(datetime) if datetime else (None, None)
        self._progress = progress
        self._state: _State | None = None
        self._lazy = False
        if found is not None:
            self._state = self._choose(found)
        elif isinstance(source, str) and is_address(source):
            # What speaks with servers is loaded where there is one: a tile's worker must start quickly.
            from cupola.lab.collections.addresses import clean, searches

            self.source = clean(source)
            # What a server searches is fetched when it is needed: further conditions may come before.
            self._lazy = searches(self.source, self._wish())
        if not self._lazy and self._state is None:
            self._state = self._choose(self._look(thorough=False))

    def refresh(self) -> Collection:
        """Look again: items that were added or changed since are seen; returns itself."""
        self._state = self._choose(self._look(thorough=True))
        return self

    def write_index(self) -> Path:
        """Write the index into the collection's own folder, so that others need not look through it.

        Returns
        -------
        path
            ``items.parquet`` (stac-geoparquet) with all items, whatever this collection was filtered by.

        Raises
        ------
        InputError
            When it is no folder.
        NotAllowedError
            When nothing can be written there.
        """
        if isinstance(self.source, str) or not self.source.is_dir():
            raise InputError(f"{capital(self)} is no folder of this machine, so no index can lie in it.")
        scan(self.source, thorough=True)
        kept = index.recall(str(self.source)) or index.Kept()
        path = self.source / index.BESIDE
        try:
            index.keep(str(self.source), kept.pieces, [], others=kept.others, target=path)
        except OSError as error:
            raise NotAllowedError(
                f"The index {path} cannot be written ({(error.strerror or str(error)).lower()}): ask the owner of the folder."
            ) from error
        return path

    def _wish(self) -> Wish:
        from cupola.lab.collections.stac_api import Wish

        return Wish(self.bbox_filter, self.datetime_filter, self.query_filter)

    def _look(self, *, thorough: bool) -> Found:
        """Look at the folder or the server."""
        if isinstance(self.source, str):
            from cupola.lab.collections.addresses import find_at

            return find_at(self.source, self._wish(), thorough=thorough, progress=self._progress)
        return scan(self.source, thorough=thorough, progress=self._progress)

    @property
    def _chosen(self) -> _State:
        """What was found, and which of it passed; fetched now if it was not yet."""
        if self._state is None:
            self._state = self._choose(self._look(thorough=False))
        return self._state

    @property
    def _found(self) -> Found:
        return self._chosen.found

    @property
    def _passed(self) -> NDArray[np.bool_]:
        return self._chosen.passed

    @property
    def id(self) -> str:
        """The name it has itself, or that of its folder."""
        return self._found.id

    @property
    def title(self) -> str:
        """Its name for people."""
        return self._found.title

    @property
    def description(self) -> str:
        """What it says of itself."""
        return self._found.description

    @property
    def note(self) -> str:
        """What one must know of it, in a sentence: such as that a server has more items than are here."""
        return self._found.table.note

    @property
    def items(self) -> Sequence[Item]:
        """The items, the newest first; each is made when it is looked at."""
        return self._chosen.items

    def _choose(self, found: Found) -> _State:
        """Choose the items that pass all filters."""
        table = found.table
        passed = np.zeros(len(table), dtype=np.bool_)
        passed[found.rows] = True
        passed &= table.within(*self._interval)
        if self.bbox_filter is not None:
            passed &= table.touching(self.bbox_filter)
        if self.query_filter is not None:
            passed &= self._fulfil(parse_query(self.query_filter), found)
        return _State(found, passed, Items(table, np.flatnonzero(passed)))

    def _fulfil(self, condition: Condition, found: Found) -> NDArray[np.bool_]:
        """Tell which items fulfil a condition.

        Raises
        ------
        InputError
            When it asks for something that no item says.
        """
        table = found.table
        known = table.property_names() | TIMES | {"id", "collection"}
        for name in condition.names():
            if len(table) and name not in known:
                raise InputError(
                    f"No item of the collection {found.id} has the property {name!r}{near(name, known)}"
                )
        return condition.test(table)[0]

    def filter(
        self,
        *,
        bbox: Iterable[float] | None = None,
        datetime: str | None = None,
        query: str | Mapping[str, Any] | None = None,
        circle: Sequence[float] | None = None,
    ) -> Collection:
        """Return the items that fulfil more conditions.

        What was asked for before still holds, except that another `bbox` or `datetime` takes the place of the last.

        Parameters
        ----------
        bbox
            West, south, east, north in degrees; west > east across the antimeridian.
        datetime
            Such as ``2020-02`` or ``2020-02-01/..``.
        query
            Such as ``"eo:cloud_cover < 20 and platform = 'sentinel-2a'"`` or ``{"eo:cloud_cover": {"lt": 20}}``.
        circle
            Right ascension (or longitude), declination (or latitude) and radius in degrees: footprints that touch
            this cone.

        Raises
        ------
        InputError
            When a condition is not understood.
        """
        text = None if query is None else str(parse_query(query))
        if circle is not None:
            text = and_also(text, circle_text(circle))
        return Collection(
            self.source,
            bbox=self.bbox_filter if bbox is None else bbox,
            datetime=self.datetime_filter if datetime is None else datetime,
            query=and_also(self.query_filter, text),
            progress=self._progress,
            found=None if self._lazy else self._found,
        )

    def only(self, item: str) -> Collection:
        """Return the collection of this one item.

        Raises
        ------
        NotFoundError
            When there is none; the text offers near ids.
        """
        return self.filter(query={"id": self.item(item).id})

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    def __contains__(self, item: object) -> bool:
        return item in self.items or (isinstance(item, str) and self._row(item) is not None)

    def _row(self, name: str) -> int | None:
        """Return the row of the item with this id in the table, if it passed."""
        row = self._found.table.number(name)
        return row if row is not None and self._passed[row] else None

    def item(self, name: str) -> Item:
        """Return the item with the id `name`.

        Raises
        ------
        NotFoundError
            When there is none; the text offers near ids.
        """
        row = self._row(name)
        if row is None:
            ids = self._found.table.light.ids
            known = [ids[row] for row in np.flatnonzero(self._passed)[:_COMPARED].tolist()]
            raise NotFoundError(f"{capital(self)} has no item {name!r}{near(name, known)}")
        return self._found.table.item(row)

    def touching(self, box: Box) -> Sequence[Item]:
        """Return the items that touch a box of west, south, east, north in degrees, the newest first."""
        table = self._found.table
        return Items(table, np.flatnonzero(self._passed & table.touching(box)))

    @property
    def bands(self) -> list[str]:
        """Names by which bands can be asked for."""
        return self.items[0].bands if self.items else []

    @property
    def body(self) -> Body | None:
        """The celestial body the images show; nothing for images without a coordinate system.

        Raises
        ------
        BodyError
            When they show more than one.
        """
        found = {body.name: body for item in self.items[:_FIRST] if (body := item.body) is not None}
        if len(found) > 1:
            raise BodyError(
                f"{capital(self)} holds images of {' and '.join(found)}: open one of its folders, or filter by bbox."
            )
        return next(iter(found.values()), None)

    @property
    def bbox(self) -> Box | None:
        """West, south, east, north around all items, in degrees; nothing where no place is known."""
        boxes = self._found.table.light.boxes[self._passed]
        boxes = boxes[~np.isnan(boxes[:, 0])]
        return around(boxes)

    @property
    def interval(self) -> tuple[Moment, Moment] | None:
        """The earliest and the latest time of the items; nothing where none is known."""
        light = self._found.table.light
        known = self._passed & (light.start != NEVER)
        if not known.any():
            return None
        first, last = moment_of(int(light.start[known].min())), moment_of(int(light.end[known].max()))
        return (first, last) if first and last else None

    def expect_items(self) -> None:
        """Refuse to go on with nothing, and where filters are the reason, say what there would be.

        Raises
        ------
        InputError
            There is no item.
        """
        if self.items:
            return
        text = f"{capital(self)} has no items to compute over"
        if not self.filters or not isinstance(self.source, Path):
            raise InputError(f"{text}.")
        whole = Collection(self.source)
        there = f"none of its {len(whole):,} fits {self.filters}"
        if span := whole.interval:
            there += f"; they are of {span[0]:%Y-%m-%d} to {span[1]:%Y-%m-%d}"
        if box := whole.bbox:
            there += f", within bbox=({', '.join(f'{side:.5g}' for side in box)})"
        raise InputError(f"{text}: {there}.")

    @property
    def filters(self) -> str:
        """What was asked for, in words; empty where all items are there."""
        parts = []
        if self.bbox_filter:
            parts.append(f"bbox {', '.join(f'{side:g}' for side in self.bbox_filter)}")
        if self.datetime_filter:
            parts.append(f"time {self.datetime_filter}")
        if self.query_filter:
            parts.append(self.query_filter)
        return "; ".join(parts)

    def __getitem__(self, names: str | tuple[str, ...] | list[str]) -> Chain:
        """Return a chain that starts from the bands of these names.

        Raises
        ------
        BandError
            When the items have no such band; the text offers near names.
        """
        from cupola.lab.chains.chain import Chain

        wanted = (names,) if isinstance(names, str) else tuple(names)
        if not wanted or not all(isinstance(name, str) for name in wanted):
            raise BandError(
                f"Ask for bands by name, such as collection[{', '.join(map(repr, self.bands[:2]))}]."
            )
        for name in wanted:
            self._check_band(name)
        return Chain.of_bands(self, wanted)

    def _check_band(self, name: str) -> None:
        """Fail now, not at the first tile, for a band that none of the first items has."""
        first: BandError | None = None
        for item in self.items[:_FIRST]:
            try:
                item.band(name)
            except BandError as error:
                first = first or error
            else:
                return
        if first is not None:
            raise first

    def preview(self) -> Chain:
        """Return the chain that shows the collection best: true colour where there is, else its first bands."""
        if not self.items:
            return self["data"]
        item = self.items[0]
        # Files of this machine first: the same item may name copies elsewhere.
        for at_hand in (_is_here, _is_named):
            for wanted in (("visual",), ("red", "green", "blue"), ("data",)):
                try:
                    bands = [band for name in wanted for band in item.band(name)]
                except CupolaError:
                    continue
                if all(at_hand(band.path) for band in bands):
                    return self[wanted]
            names = [name for name in item.bands if at_hand(item.band(name)[0].path)]
            if names:
                return self[names[0]]
        if not item.bands:
            raise BandError(f"{capital(item)} has no images to show.")
        return self[item.bands[0]]

    @override
    def __str__(self) -> str:
        return f"the collection {self.id}"

    @override
    def __repr__(self) -> str:
        parts = [f"{len(self)} item{'s' if len(self) != 1 else ''}"]
        if self.items:
            body = self.items[0].body
            parts.append(body.name if body else "no coordinate system")
            parts.append(
                "bands " + ", ".join(self.bands[:_SHOWN]) + (", ..." if len(self.bands) > _SHOWN else "")
            )
        return f"<Collection {self.id}: {'; '.join(parts)}>"

    def _repr_html_(self) -> str:
        rows: list[tuple[str, Any]] = [("Items", f"{len(self):,}")]
        if self.items:
            body = self.items[0].body
            rows.append(("Body", body.name if body else "none: images without a coordinate system"))
            rows.append(("Bands", ", ".join(self.bands)))
        if box := self.bbox:
            west, south, east, north = box
            rows.append(("Where", f"{west:.3f}° … {east:.3f}° east, {south:.3f}° … {north:.3f}° north"))
        if span := self.interval:
            rows.append(("When", f"{span[0]:%Y-%m-%d} … {span[1]:%Y-%m-%d}"))
        if filters := self.filters:
            rows.append(("Only", filters))
        if note := self.note:
            rows.append(("Note", note))
        if unreadable := self._found.table.unreadable:
            rows.append(("Unreadable", f"{len(unreadable):,} files, such as {next(iter(unreadable))}"))
        rows.append(("Source", str(self.source)))
        body_rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(key)}</th>"
            f"<td style='text-align:left'>{html.escape(str(value))}</td></tr>"
            for key, value in rows
        )
        listed = "".join(
            f"<li>{html.escape(item.id)}{f' · {item.datetime:%Y-%m-%d %H:%M}' if item.datetime else ''}</li>"
            for item in self.items[:_SHOWN]
        )
        more = f"<li>… and {len(self) - _SHOWN:,} more</li>" if len(self) > _SHOWN else ""
        return (
            f"<div><strong>{html.escape(self.title or self.id)}</strong><table>{body_rows}</table>"
            f"<details><summary>Items</summary><ul>{listed}{more}</ul></details></div>"
        )


def _is_here(path: str) -> bool:
    """Tell whether a file is on this machine."""
    local = local_path(path)
    return local is not None and Path(local).exists()


def _is_named(path: str) -> bool:
    """Tell whether a file is on this machine, or on a server that may be asked for it."""
    return local_path(path) is None or _is_here(path)
