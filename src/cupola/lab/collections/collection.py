"""A collection: items of one kind, from which chains start."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from cupola.exceptions import BandError, BodyError, CupolaError, NotFoundError
from cupola.lab.collections.footprint import Box, BoxIndex, check_box
from cupola.lab.collections.interval import parse_interval
from cupola.lab.collections.query import and_also, circle_text, parse_query
from cupola.lab.collections.rows import ItemRows
from cupola.lab.collections.scan import Found, scan
from cupola.lab.collections.wording import capital, near

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from cupola.lab.bodies import Body
    from cupola.lab.chains.chain import Chain
    from cupola.lab.collections.items import Item

__all__ = ["Collection"]

_SHOWN = 8
"""Most items and bands that a notebook's cell lists."""
_FIRST = 20
"""How many items are asked for their bands."""


class Collection:
    """Images of one kind and what is known of them. Nothing is read until a viewport or a run asks.

    ``collection["B04", "B08"]`` starts a chain from these bands, ``collection[["B04"]]`` likewise;
    ``len``, ``in`` and iteration go over the items, the newest first.

    Parameters
    ----------
    source
        A folder, a STAC document or an image file.
    bbox
        Only items that touch west, south, east, north (degrees; west > east across the antimeridian).
    datetime
        Only items of this time, such as ``2020-02`` or ``2020-02-01/..``.
    query
        Only items with such properties, such as ``"eo:cloud_cover < 20 and platform = 'sentinel-2a'"``.
    """

    def __init__(
        self,
        source: Path,
        *,
        bbox: Iterable[float] | None = None,
        datetime: str | None = None,
        query: str | Mapping[str, Any] | None = None,
    ) -> None:
        self.source = source
        self.query_filter = None if query is None else str(parse_query(query))
        """In its canonical text; the circle and the id that were asked for are part of it."""
        self.bbox_filter: Box | None = None if bbox is None else check_box(bbox)
        self.datetime_filter = datetime
        self._interval = parse_interval(datetime) if datetime else (None, None)
        self.refresh()

    def refresh(self) -> Collection:
        """Look again: items that were added or changed since are seen; returns itself."""
        found = scan(self.source)
        self.id, self.title, self.description = found.id, found.title, found.description
        self.items: tuple[Item, ...] = tuple(self._select(found))
        self._by_id = {item.id: item for item in self.items}
        self._index: BoxIndex | None = None
        return self

    def _select(self, found: Found) -> list[Item]:
        """Return the items that pass both filters, the newest first."""
        start, end = self._interval
        items = [item for item in found.items if _within(item, start, end)]
        if self.bbox_filter is not None:
            hits = BoxIndex(item.bbox for item in items).touching(self.bbox_filter)
            items = [items[number] for number in hits]
        if self.query_filter is not None:
            passed, _ = parse_query(self.query_filter).test(ItemRows(items))
            items = [items[number] for number in passed.nonzero()[0]]
        items.sort(key=lambda item: item.id)
        items.sort(key=lambda item: item.datetime.timestamp() if item.datetime else 0.0, reverse=True)
        return items

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
        return item in self._by_id or item in self.items

    def item(self, name: str) -> Item:
        """Return the item with the id `name`.

        Raises
        ------
        NotFoundError
            When there is none; the text offers near ids.
        """
        if name not in self._by_id:
            raise NotFoundError(f"{capital(self)} has no item {name!r}{near(name, self._by_id)}")
        return self._by_id[name]

    def touching(self, box: Box) -> list[Item]:
        """Return the items that touch a box of west, south, east, north in degrees, the newest first."""
        if self._index is None:
            self._index = BoxIndex(item.bbox for item in self.items)
        return [self.items[number] for number in self._index.touching(box)]

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
        boxes = [item.bbox for item in self.items]
        known = [box for box in boxes if box is not None]
        if not known:
            return None
        if len(known) == 1:
            return known[0]
        crossing = any(west > east for west, _, east, _ in known)
        south, north = min(box[1] for box in known), max(box[3] for box in known)
        if crossing:
            # Count eastwards from 0 to 360, where nothing crosses; report it the usual way again.
            wests = [box[0] % 360 for box in known]
            easts = [box[2] % 360 or 360 for box in known]
            return (min(wests) + 180) % 360 - 180, south, (max(easts) + 180) % 360 - 180, north
        return min(box[0] for box in known), south, max(box[2] for box in known), north

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
        for wanted in (("visual",), ("red", "green", "blue"), ("data",)):
            try:
                bands = [band for name in wanted for band in item.band(name)]
            except CupolaError:
                continue
            if all(Path(band.path).is_file() for band in bands):
                return self[wanted]
        if not item.bands:
            raise BandError(f"{capital(item)} has no images to show.")
        at_hand = [name for name in item.bands if Path(item.band(name)[0].path).is_file()]
        return self[(at_hand or item.bands)[0]]

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
        times = sorted(item.datetime for item in self.items if item.datetime)
        if times:
            rows.append(("When", f"{times[0]:%Y-%m-%d} … {times[-1]:%Y-%m-%d}"))
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


def _within(item: Item, start: datetime | None, end: datetime | None) -> bool:
    """Tell whether an item's time touches the span; one without a time passes only where no span is asked."""
    if start is None and end is None:
        return True
    if item.datetime is None:
        return False
    return (end is None or item.datetime < end) and (start is None or (item.end or item.datetime) >= start)
