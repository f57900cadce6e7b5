"""Items as stac-geoparquet: what DuckDB, geopandas and the stac-geoparquet package read as well.

Each property is a column; what is no plain value, or of another kind from item to item, is kept as JSON text.
Columns that begin with ``cupola:`` tell which file an item came from and how that file looked.
"""

from __future__ import annotations

import json
import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.lab.collections.conditions import TIMES, Column
from cupola.lab.collections.footprint import box_geometry
from cupola.lab.collections.items import parse_time
from cupola.lab.collections.records import NEVER, micros

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

    from cupola.lab.collections.records import Record

__all__ = [
    "FILE",
    "KEY",
    "column",
    "encode",
    "merge",
    "metadata",
    "plain",
    "property_names",
    "quick_column",
    "to_numpy",
    "write",
]

KEY = b"cupola"
FILE = "cupola:file"
_RESERVED = frozenset({
    "type", "stac_version", "stac_extensions", "id", "geometry", "bbox", "collection", "links", "assets",
})  # fmt: skip
_OWN = ("cupola:file", "cupola:mtime", "cupola:size", "cupola:image", "cupola:item")
_MOST_ASSETS = 128
"""Kinds of files that get a column; archives that name each file differently would need one per file."""
_ROWS = 2000
"""Rows of a group: what is read at least when one item's document is asked for."""
_GEO = {
    "version": "1.1.0",
    "primary_column": "geometry",
    "columns": {
        "geometry": {
            "encoding": "WKB",
            "geometry_types": [],
            "edges": "planar",
            "covering": {"bbox": {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}},
        }
    },
}


def encode(records: Sequence[Record]) -> pa.Table:
    """Return records as a table."""
    import pyarrow as pa

    columns: dict[str, Any] = {
        "type": pa.array(["Feature"] * len(records)),
        "stac_version": pa.array([record.version for record in records]),
        "stac_extensions": pa.array([record.extensions for record in records], pa.list_(pa.string())),
        "id": pa.array([record.id for record in records], pa.string()),
        "geometry": pa.array(_geometries(records), pa.binary()),
        "bbox": _boxes(records),
        "collection": pa.array([record.collection for record in records], pa.string()),
        "links": pa.array([[{"rel": "self", "href": record.name}] for record in records], _links()),
    }
    if assets := _assets(records):
        columns["assets"] = assets
    columns["datetime"] = _moments([record.start for record in records])
    columns["end_datetime"] = _moments([_end(record) for record in records])
    texts = []
    names = sorted(
        {name for record in records for name in record.properties} - _RESERVED - set(_OWN) - set(columns)
    )
    for name in names:
        columns[name], plain = _property(name, [record.properties.get(name) for record in records])
        if not plain:
            texts.append(name)
    columns |= {
        "cupola:file": pa.array([record.name for record in records], pa.string()),
        "cupola:mtime": pa.array([record.stamp[0] for record in records], pa.int64()),
        "cupola:size": pa.array([record.stamp[1] for record in records], pa.int64()),
        "cupola:image": pa.array([record.image for record in records], pa.bool_()),
        "cupola:item": pa.array([record.document for record in records], pa.binary()),
    }
    fields = [
        pa.field(name, array.type, metadata={"cupola": "json"} if name in texts else None)
        for name, array in columns.items()
    ]
    return pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields))


def _end(record: Record) -> int:
    return record.end if record.end != record.start or "end_datetime" in record.properties else NEVER


def _links() -> Any:
    import pyarrow as pa

    return pa.list_(pa.struct([("rel", pa.string()), ("href", pa.string())]))


def _geometries(records: Sequence[Record]) -> list[bytes | None]:
    """Return footprints as WKB; nothing where there is none or it is broken."""
    import shapely

    texts = [
        json.dumps(geometry) if (geometry := record.geometry or box_geometry(record.box)) else None
        for record in records
    ]
    shapes = shapely.from_geojson(np.array(texts, dtype=object), on_invalid="ignore")
    return list(shapely.to_wkb(shapely.force_2d(shapes)))


def _boxes(records: Sequence[Record]) -> Any:
    import pyarrow as pa

    sides = ("xmin", "ymin", "xmax", "ymax")
    arrays = [
        pa.array([None if record.box is None else record.box[side] for record in records], pa.float64())
        for side in range(4)
    ]
    unknown = pa.array([record.box is None for record in records], pa.bool_())
    return pa.StructArray.from_arrays(arrays, list(sides), mask=unknown)


def _moments(values: Sequence[int]) -> Any:
    import pyarrow as pa

    return pa.array([None if value == NEVER else value for value in values], pa.int64()).cast(
        pa.timestamp("us", "UTC")
    )


def _assets(records: Sequence[Record]) -> Any:
    """Return the files of each item, by key."""
    import pyarrow as pa

    keys: dict[str, None] = {}
    for record in records:
        keys.update(dict.fromkeys(record.assets))
        if len(keys) > _MOST_ASSETS:
            break
    chosen = list(keys)[:_MOST_ASSETS]
    arrays = [pa.array([_asset(record, key) for record in records], _asset_kind()) for key in chosen]
    return pa.StructArray.from_arrays(arrays, chosen) if chosen else None


def _asset_kind() -> Any:
    import pyarrow as pa

    return pa.struct([
        ("href", pa.string()), ("type", pa.string()), ("title", pa.string()), ("roles", pa.list_(pa.string())),
    ])  # fmt: skip


def _asset(record: Record, key: str) -> dict[str, Any] | None:
    found = record.assets.get(key)
    if found is None:
        return None
    roles = found.get("roles")
    href = found["href"]
    if not record.image and "://" not in href and not href.startswith("/"):
        # In the table, addresses start at the collection's folder, no longer at each item's.
        href = os.path.normpath(os.path.join(os.path.dirname(record.name), href))  # noqa: PTH118, PTH120 - text, no path
    return {
        "href": href,
        "type": None if found.get("type") is None else str(found["type"]),
        "title": None if found.get("title") is None else str(found["title"]),
        "roles": [str(role) for role in roles] if isinstance(roles, list) else None,
    }


def _property(name: str, values: list[Any]) -> tuple[Any, bool]:
    """Return a property as a column, and whether its values are in it as they are."""
    import pyarrow as pa

    if name in TIMES:
        return _moments([micros(parse_time(value)) for value in values]), True
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and float in kinds:
        # Whole numbers that no float holds exactly would come back as others.
        return pa.array([None if value is None else float(value) for value in values], pa.float64()), True
    if len(kinds) <= 1 and (not kinds or kinds <= {bool, int, float, str}):
        try:
            return pa.array(values, None if kinds else pa.string()), True
        except (pa.ArrowInvalid, OverflowError):
            pass
    if kinds == {list} and all(isinstance(one, str) for value in values if value for one in value):
        return pa.array(values, pa.list_(pa.string())), True
    return pa.array([None if value is None else json.dumps(value) for value in values], pa.string()), False


def merge(tables: Sequence[pa.Table]) -> pa.Table:
    """Return tables one below the other, whatever columns each has."""
    import pyarrow as pa

    if len(tables) == 1:
        return tables[0]
    names = list(dict.fromkeys(name for table in tables for name in table.column_names))
    own = [name for name in names if name in _OWN]
    columns, fields = [], []
    for name in [name for name in names if name not in _OWN] + own:
        if name == "assets":
            arrays = _same_assets(tables)
            field = pa.field(name, arrays[0].type)
        else:
            arrays, field = _same_kind(name, tables)
        columns.append(pa.chunked_array(arrays, field.type))
        fields.append(field)
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _same_kind(name: str, tables: Sequence[pa.Table]) -> tuple[list[Any], Any]:
    """Return one column of all tables in a type that holds the values of all."""
    import pyarrow as pa

    present = [table.schema.field(name) for table in tables if name in table.column_names]
    # A column without any value is text by default: it must not decide.
    deciding = [
        table.schema.field(name)
        for table in tables
        if name in table.column_names and table[name].null_count < table.num_rows
    ] or present
    kinds = {field.type for field in deciding}
    text = any(_is_json(field) for field in deciding)
    numbers = kinds <= {pa.int64(), pa.float64()}
    if text or (len(kinds) > 1 and not numbers):
        field = pa.field(name, pa.string(), metadata={"cupola": "json"})
        convert: Callable[[Any, Any], Any] = _to_json
    else:
        field = deciding[0] if len(kinds) == 1 else pa.field(name, pa.float64())
        convert = _to_kind(field.type)
    arrays = []
    for table in tables:
        if name not in table.column_names or table[name].null_count == table.num_rows:
            arrays.append(pa.nulls(table.num_rows, field.type))
        else:
            arrays += convert(table[name], table.schema.field(name)).chunks
    return arrays, field


def _is_json(field: Any) -> bool:
    return bool(field.metadata) and field.metadata.get(b"cupola") == b"json"


def _to_kind(kind: Any) -> Callable[[Any, Any], Any]:
    return lambda column, _field: column.cast(kind)


def _to_json(column: Any, field: Any) -> Any:
    import pyarrow as pa

    if _is_json(field):
        return column
    texts = [None if value is None else json.dumps(value) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(texts, pa.string())])


def _same_assets(tables: Sequence[pa.Table]) -> list[Any]:
    """Return the assets of all tables with the same keys."""
    import pyarrow as pa

    found = [table["assets"].combine_chunks() if "assets" in table.column_names else None for table in tables]
    here = [
        {} if array is None else {field.name: array.field(field.name) for field in array.type}
        for array in found
    ]
    keys = list(dict.fromkeys(key for one in here for key in one))[:_MOST_ASSETS]
    merged = []
    for table, one in zip(tables, here, strict=True):
        parts = [
            one[key].cast(_asset_kind()) if key in one else pa.nulls(table.num_rows, _asset_kind())
            for key in keys
        ]
        merged.append(pa.StructArray.from_arrays(parts, keys))
    return merged


def metadata(table: pa.Table, said: dict[str, Any], crs: dict[str, Any] | None, *, earth: bool) -> pa.Table:
    """Return the table with what makes it stac-geoparquet, and what we say of it ourselves.

    Parameters
    ----------
    table, said
        The items, and anything that JSON can hold.
    crs
        The geographic system of the body as PROJJSON; nothing where it is unknown.
    earth
        Whether it is longitude and latitude on the Earth (WGS 84), which is the default of the format.
    """
    geo = json.loads(json.dumps(_GEO))
    if not earth:
        geo["columns"]["geometry"]["crs"] = crs
    added = {
        b"geo": json.dumps(geo).encode(),
        b"stac-geoparquet": json.dumps({"version": "1.0.0"}).encode(),
        KEY: json.dumps(said, separators=(",", ":")).encode(),
    }
    return table.replace_schema_metadata({**(table.schema.metadata or {}), **added})


def write(table: pa.Table, target: Any) -> None:
    """Write a table to a path or a buffer."""
    import pyarrow.parquet as pq

    pq.write_table(table, target, compression="zstd", compression_level=1, row_group_size=_ROWS)


def property_names(file: pq.ParquetFile) -> list[str]:
    """Return the properties that at least one item has."""
    names = file.schema_arrow.names
    return [name for name in names if name not in _RESERVED and name not in _OWN]


def column(file: pq.ParquetFile, name: str) -> list[Any]:
    """Return a column of a file as Python's values."""
    field = file.schema_arrow.field(name)
    values: list[Any] = file.read(columns=[name]).column(0).to_pylist()
    if _is_json(field):
        return [None if value is None else json.loads(value) for value in values]
    if name in TIMES:
        return [None if value is None else value.isoformat() for value in values]
    return values


def quick_column(file: pq.ParquetFile, name: str) -> Column:
    """Return a column of a file to ask conditions of; text is compared once per distinct value."""
    import pyarrow as pa

    field = file.schema_arrow.field(name)
    array = file.read(columns=[name]).column(0)
    if (pa.types.is_floating(field.type) or pa.types.is_integer(field.type)) and not _is_json(field):
        return Column(to_numpy(array))
    if pa.types.is_string(field.type) and not _is_json(field):
        coded = array.combine_chunks().dictionary_encode()
        codes = plain(coded.indices, -1)
        return Column(None, codes.astype(np.intp), coded.dictionary.to_pylist())
    return Column.of(column(file, name))


def to_numpy(array: Any) -> NDArray[np.float64]:
    """Return numbers, NaN where there are none."""
    import pyarrow as pa

    return plain(array.cast(pa.float64(), safe=False), math.nan)


def plain(array: Any, missing: float = 0) -> NDArray[Any]:
    """Return numbers, `missing` where there are none; pyarrow's own ways to do so load pandas first."""
    import pyarrow as pa

    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else array.combine_chunks()
    if pa.types.is_boolean(array.type):
        return plain(array.cast(pa.uint8()), missing).astype(np.bool_)
    if not array.null_count:
        return np.from_dlpack(array)
    whole = pa.Array.from_buffers(array.type, len(array), [None, array.buffers()[1]], offset=array.offset)
    values = np.from_dlpack(whole).copy()
    values[plain(array.is_null())] = missing
    return values
