"""All items of a collection as columns: light enough for 100,000, whole items only when they are asked for."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, overload
from weakref import WeakValueDictionary

import numpy as np
from typing_extensions import override

from cupola.lab.collections.circles import in_circle
from cupola.lab.collections.conditions import Column
from cupola.lab.collections.footprint import Box, BoxIndex
from cupola.lab.collections.items import Item
from cupola.lab.collections.records import NEVER, Record

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow.parquet as pq
    from numpy.typing import NDArray

__all__ = ["FilePart", "Items", "Light", "Piece", "RecordsPart", "Table", "address_of", "around", "moment_of"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FOOTPRINTS_KEPT = 32 * 1024 * 1024
"""Bytes of footprints that stay in memory."""
_GROUPS_KEPT = 4
"""Groups of packed documents that stay in memory."""


class Part(Protocol):
    """Where the details of some items are."""

    def names(self) -> set[str]:
        """Return the properties that at least one item has."""

    def column(self, name: str) -> Column | None:
        """Return a property of all; nothing where none has it."""

    def values(self, name: str) -> list[Any]:
        """Return a property of all as Python's values."""

    def geometry(self, row: int) -> Any:
        """Return a footprint as a shapely geometry; nothing where only its box is known."""

    def document(self, row: int) -> dict[str, Any] | None:
        """Return the STAC item, where it cannot be read again from a file."""


class RecordsPart:
    """Items that were just read."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records

    def names(self) -> set[str]:
        """Return the properties that at least one item has."""
        return {
            name for record in self.records for name, value in record.properties.items() if value is not None
        }

    def column(self, name: str) -> Column | None:
        """Return a property of all."""
        return Column.of(self.values(name))

    def values(self, name: str) -> list[Any]:
        """Return a property of all as Python's values."""
        found = [record.properties.get(name) for record in self.records]
        if name == "datetime":
            moments = [moment_of(record.start) for record in self.records]
            return [
                value or (moment and moment.isoformat()) for value, moment in zip(found, moments, strict=True)
            ]
        return found

    def geometry(self, row: int) -> Any:
        """Return a footprint as a shapely geometry."""
        import shapely

        geometry = self.records[row].geometry
        return geometry and shapely.from_geojson(json.dumps(geometry), on_invalid="ignore")

    def document(self, row: int) -> dict[str, Any] | None:
        """Return the STAC item, where it cannot be read again from a file."""
        packed = self.records[row].document
        return None if packed is None else json.loads(zlib.decompress(packed))


class FilePart:
    """Items in a stac-geoparquet file that stays open: another process may put a new one in its place meanwhile."""

    def __init__(self, file: pq.ParquetFile) -> None:
        self.file = file
        self._groups: OrderedDict[tuple[int, str], list[Any]] = OrderedDict()
        self._whole: tuple[int, Any] = (-1, None)
        self._footprints: Any = None
        ends = np.cumsum([file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)])
        self._ends = ends

    def names(self) -> set[str]:
        """Return the properties that at least one item has."""
        from cupola.lab.collections.geoparquet import property_names

        return set(property_names(self.file))

    def column(self, name: str) -> Column | None:
        """Return a property of all; nothing where none has it."""
        from cupola.lab.collections.geoparquet import quick_column

        return quick_column(self.file, name) if name in self.file.schema_arrow.names else None

    def values(self, name: str) -> list[Any]:
        """Return a property of all as Python's values."""
        from cupola.lab.collections.geoparquet import column

        if name not in self.file.schema_arrow.names:
            return [None] * self.file.metadata.num_rows
        return column(self.file, name)

    def geometry(self, row: int) -> Any:
        """Return a footprint as a shapely geometry."""
        import shapely

        if self._footprints is None and self._bytes_of("geometry") <= _FOOTPRINTS_KEPT:
            self._footprints = self.file.read(columns=["geometry"])["geometry"].combine_chunks()
        kept = self._footprints
        return shapely.from_wkb(self._cell("geometry", row) if kept is None else kept[row].as_py())

    def _bytes_of(self, name: str) -> int:
        """Return how much memory a column takes."""
        data = self.file.metadata
        places = [(group, place) for group in range(data.num_row_groups) for place in range(data.num_columns)]
        columns = [data.row_group(group).column(place) for group, place in places]
        return sum(one.total_uncompressed_size for one in columns if one.path_in_schema == name)

    def document(self, row: int) -> dict[str, Any] | None:
        """Return the STAC item, where it cannot be read again from a file."""
        if "cupola:item" not in self.file.schema_arrow.names:
            return self._rebuilt(row)
        packed = self._cell("cupola:item", row)
        return None if packed is None else json.loads(zlib.decompress(packed))

    def _rebuilt(self, row: int) -> dict[str, Any]:
        """Return the item of a file that others wrote."""
        from stac_geoparquet.arrow import stac_table_to_items

        group = int(np.searchsorted(self._ends, row, side="right"))
        if self._whole[0] != group:
            self._whole = group, self._group(row, None)
        (found,) = stac_table_to_items(self._whole[1].slice(self._within(row), 1))
        return dict(found)

    def _within(self, row: int) -> int:
        """Return the place of a row in its group."""
        group = int(np.searchsorted(self._ends, row, side="right"))
        return row - (int(self._ends[group - 1]) if group else 0)

    def _group(self, row: int, columns: list[str] | None) -> Any:
        return self.file.read_row_group(int(np.searchsorted(self._ends, row, side="right")), columns=columns)

    def _cell(self, name: str, row: int) -> Any:
        key = int(np.searchsorted(self._ends, row, side="right")), name
        if key not in self._groups:
            self._groups[key] = self._group(row, [name]).column(0).to_pylist()
            while len(self._groups) > _GROUPS_KEPT:
                self._groups.popitem(last=False)
        return self._groups[key][self._within(row)]


@dataclass
class Light:
    """What finds an item, of many items."""

    ids: list[str]
    names: list[str]
    stamps: NDArray[np.int64]
    """Time of change and size of each item's file (n, 2)."""
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    boxes: NDArray[np.float64]
    """(n, 4), NaN where no place is known."""
    images: NDArray[np.bool_]
    collections: list[str | None]
    targets: list[tuple[str, ...] | None]

    @classmethod
    def of(cls, records: Sequence[Record]) -> Light:
        """Return what finds the items of these records."""
        return cls(
            ids=[record.id for record in records],
            names=[record.name for record in records],
            stamps=np.array([record.stamp for record in records], dtype=np.int64).reshape(-1, 2),
            start=np.array([record.start for record in records], dtype=np.int64),
            end=np.array([record.end for record in records], dtype=np.int64),
            boxes=np.array([record.box or (np.nan,) * 4 for record in records], dtype=np.float64).reshape(
                -1, 4
            ),
            images=np.array([record.image for record in records], dtype=np.bool_),
            collections=[record.collection for record in records],
            targets=[record.targets for record in records],
        )

    def take(self, rows: NDArray[np.intp]) -> Light:
        """Return these rows, in this order."""
        chosen = rows.tolist()

        def pick(values: list[Any]) -> list[Any]:
            return [values[row] for row in chosen]

        return Light(
            pick(self.ids), pick(self.names), self.stamps[rows], self.start[rows], self.end[rows], self.boxes[rows],
            self.images[rows], pick(self.collections), pick(self.targets),
        )  # fmt: skip

    def newest_first(self) -> NDArray[np.intp]:
        """Return the rows by time, the newest first, and by id; those without a time at the end; an id only once."""
        count = len(self.ids)
        times = np.where(self.start == NEVER, NEVER + 1, self.start)
        if self._in_order(times):
            return np.arange(count)
        first: dict[str, int] = {}
        for row in sorted(range(count), key=self.names.__getitem__):
            first.setdefault(self.ids[row], row)
        rows = np.array([first[key] for key in sorted(first)], dtype=np.intp)
        return rows[np.argsort(-times[rows], kind="stable")]

    def _in_order(self, times: NDArray[np.int64]) -> bool:
        """Tell whether this is the order already, as it is in files that we wrote."""
        if (times[:-1] < times[1:]).any() or len(set(self.ids)) < len(self.ids):
            return False
        ties = np.flatnonzero(times[:-1] == times[1:]).tolist()
        return all(self.ids[row] < self.ids[row + 1] for row in ties)

    def __add__(self, other: Light) -> Light:
        return Light(
            ids=self.ids + other.ids,
            names=self.names + other.names,
            stamps=np.concatenate([self.stamps, other.stamps]),
            start=np.concatenate([self.start, other.start]),
            end=np.concatenate([self.end, other.end]),
            boxes=np.concatenate([self.boxes, other.boxes]),
            images=np.concatenate([self.images, other.images]),
            collections=self.collections + other.collections,
            targets=self.targets + other.targets,
        )


@dataclass
class Piece:
    """Some rows of a part, and what finds their items."""

    part: Part
    rows: NDArray[np.intp]
    light: Light

    @classmethod
    def of(cls, part: Part, light: Light) -> Piece:
        """Return all of a part."""
        return cls(part, np.arange(len(light.ids)), light)

    def take(self, numbers: Sequence[int]) -> Piece:
        """Return these of its rows."""
        if len(numbers) == len(self.rows):
            return self
        chosen = np.array(numbers, dtype=np.intp)
        return Piece(self.part, self.rows[chosen], self.light.take(chosen))


def address_of(root: str, name: str) -> str:
    """Return the path or address of a file of a collection."""
    if not name:
        return root
    if "://" in name or os.path.isabs(name):  # noqa: PTH117 - text, for speed
        return name
    return f"{root.rstrip('/')}/{name}"


@dataclass
class Table:
    """All items of a collection, the newest first."""

    root: str
    """The folder, or the address, that names are relative to."""
    light: Light
    parts: list[tuple[Part, NDArray[np.intp]]]
    """Where the details are: parts, and which of their rows; one part after the other."""
    order: NDArray[np.intp]
    """For each item its number among the rows of the parts."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Files that look like images but are none, and why."""
    note: str = ""
    """What a person must know of it, in a sentence."""

    def __post_init__(self) -> None:
        self._items: WeakValueDictionary[int, Item] = WeakValueDictionary()
        self._columns: dict[str, Column] = {}
        self._numbers: dict[str, int] | None = None
        self._boxes: BoxIndex | None = None

    @classmethod
    def build(cls, root: str, pieces: Iterable[Piece], **more: Any) -> Table:
        """Return a table from pieces."""
        light = Light.of([])
        parts: list[tuple[Part, NDArray[np.intp]]] = []
        for piece in pieces:
            light = piece.light if not parts else light + piece.light
            parts.append((piece.part, piece.rows))
        order = light.newest_first()
        chosen = light if np.array_equal(order, np.arange(len(light.ids))) else light.take(order)
        return cls(root, chosen, parts, order, **more)

    @classmethod
    def of_records(cls, root: str, records: Sequence[Record], **more: Any) -> Table:
        """Return the table of records in memory."""
        return cls.build(root, [Piece.of(RecordsPart(records), Light.of(records))], **more)

    def __len__(self) -> int:
        return len(self.light.ids)

    def number(self, name: str) -> int | None:
        """Return the row of the item with this id."""
        if self._numbers is None:
            self._numbers = {key: row for row, key in enumerate(self.light.ids)}
        return self._numbers.get(name)

    def item(self, row: int) -> Item:
        """Return an item; the same one as long as anybody has it."""
        found = self._items.get(row)
        if found is None:
            found = self._items[row] = self._item(row)
        return found

    def _item(self, row: int) -> Item:
        light = self.light
        place = address_of(self.root, light.names[row])
        box = light.boxes[row]
        common: dict[str, Any] = {
            "id": light.ids[row],
            "datetime": moment_of(int(light.start[row])),
            "end": moment_of(int(light.end[row])),
            "collection": light.collections[row],
            "box": None if np.isnan(box[0]) else tuple(box.tolist()),
            "targets": light.targets[row],
            "stamp": (int(light.stamps[row, 0]), int(light.stamps[row, 1])),
        }
        if light.images[row]:
            return Item(**common, image=place)
        document = self._document(row)
        if document is not None:
            return Item(**common, document=document, address=place)
        return Item(**common, path=Path(place))

    def _place(self, row: int) -> tuple[Part, int]:
        """Return the part that has the details of an item, and its row there."""
        number = int(self.order[row])
        for part, rows in self.parts:
            if number < len(rows):
                return part, int(rows[number])
            number -= len(rows)
        raise IndexError(row)

    def _document(self, row: int) -> dict[str, Any] | None:
        part, number = self._place(row)
        return part.document(number)

    def property_names(self) -> set[str]:
        """Return what conditions may ask for."""
        return set().union(*(part.names() for part, _ in self.parts))

    def column(self, name: str) -> Column:
        """Return a property of all items."""
        if name not in self._columns:
            self._columns[name] = self._column(name)
        return self._columns[name]

    def _column(self, name: str) -> Column:
        if name == "id":
            return Column(None, np.arange(len(self)), list(self.light.ids))
        if name == "collection":
            return Column.of(self.light.collections)
        found = [part.column(name) for part, _ in self.parts]
        if len(found) == 1 and found[0] is not None:
            rows = self.parts[0][1][self.order]
            only = found[0]
            if only.numbers is not None:
                return Column(only.numbers[rows])
            return Column(None, only.codes[rows] if only.codes is not None else None, only.values)
        values: list[Any] = []
        for part, rows in self.parts:
            here = part.values(name)
            values += [here[row] for row in rows.tolist()]
        return Column.of([values[row] for row in self.order.tolist()])

    def in_circle(self, longitude: float, latitude: float, radius: float) -> NDArray[np.bool_]:
        """Tell which footprints touch a circle of degrees."""

        def footprint(row: int) -> Any:
            part, number = self._place(row)
            with contextlib.suppress(ImportError):
                return part.geometry(number)
            return None

        return in_circle(self.light.boxes, footprint, longitude, latitude, radius)

    def within(self, start: datetime | None, end: datetime | None) -> NDArray[np.bool_]:
        """Tell which items touch a span of time; one without a time passes only where no span is asked."""
        known = self.light.start != NEVER
        if start is None and end is None:
            return np.ones(len(self), dtype=np.bool_)
        passed: NDArray[np.bool_] = known
        if end is not None:
            passed = passed & (self.light.start < _micros(end))
        if start is not None:
            passed = passed & (self.light.end >= _micros(start))
        return passed

    def touching(self, box: Box) -> NDArray[np.bool_]:
        """Tell which items touch a box of west, south, east, north in degrees."""
        if self._boxes is None:
            self._boxes = BoxIndex(self.light.boxes)
        found = np.zeros(len(self), dtype=np.bool_)
        found[self._boxes.touching(box)] = True
        return found


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment_of(micros: int) -> datetime | None:
    """Return a time from microseconds since 1970; nothing from `NEVER`."""
    return None if micros == NEVER else _EPOCH + timedelta(microseconds=micros)


def around(boxes: NDArray[np.float64]) -> Box | None:
    """Return the box around boxes (n, 4) of known places; nothing around none."""
    if not len(boxes):
        return None
    if len(boxes) == 1:
        west, south, east, north = boxes[0].tolist()
        return west, south, east, north
    wests, easts = boxes[:, 0], boxes[:, 2]
    south, north = float(boxes[:, 1].min()), float(boxes[:, 3].max())
    if (wests > easts).any():
        # Count eastwards from 0 to 360, where nothing crosses; report it the usual way again.
        west, east = float((wests % 360).min()), float(np.where(easts % 360 == 0, 360.0, easts % 360).max())
        return (west + 180) % 360 - 180, south, (east + 180) % 360 - 180, north
    return float(wests.min()), south, float(easts.max()), north


class Items(Sequence[Item]):
    """Items of a table, made when they are looked at."""

    def __init__(self, table: Table, rows: NDArray[np.intp]) -> None:
        self.table = table
        self.rows = rows

    @override
    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> Item: ...
    @overload
    def __getitem__(self, place: slice) -> Items: ...
    @override
    def __getitem__(self, place: int | slice) -> Item | Items:
        if isinstance(place, slice):
            return Items(self.table, self.rows[place])
        return self.table.item(int(self.rows[place]))

    @override
    def __contains__(self, item: object) -> bool:
        if not isinstance(item, Item):
            return False
        row = self.table.number(item.id)
        return row is not None and bool((self.rows == row).any())

    @override
    def __repr__(self) -> str:
        return f"<{len(self)} item{'s' if len(self) != 1 else ''}>"

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one is two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]
