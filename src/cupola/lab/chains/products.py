"""Products on disk: their names, what is written aside first, and the STAC documents beside them."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import socket
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cupola.lab.chains.provenance import checksum, datalab_version, describe_function, software
from cupola.lab.collections.footprint import image_box
from cupola.lab.collections.images import describe

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cupola.lab.chains.chain import Chain
    from cupola.lab.chains.packing import Packing
    from cupola.lab.collections.footprint import Box
    from cupola.lab.collections.items import Item

__all__ = ["aside", "file_stem", "sweep", "write_collection", "write_item"]

_STAC = "1.1.0"
_EXTENSIONS = [
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
]
_SSYS = "https://stac-extensions.github.io/ssys/v1.1.1/schema.json"
_ASIDE = re.compile(r"\.(?P<stem>.+)\.(?P<host>[^.]*)\.(?P<pid>\d+)\.[0-9a-f]{8}\.part\..+")
_FORGOTTEN = 24 * 3600.0
"""Seconds after which a file left aside by another machine is taken for dead."""


def file_stem(text: str) -> str:
    """Return `text` as a safe file name without an ending."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[:150] or "product"


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())


def aside(folder: Path, stem: str, ending: str) -> Path:
    """Return a hidden name in `folder` for a file that is being written; it tells who writes it."""
    return folder / f".{stem}.{_host()}.{os.getpid()}.{uuid.uuid4().hex[:8]}.part{ending}"


def sweep(folder: Path, stem: str) -> None:
    """Remove what killed runs left aside for this product; what a living process writes stays."""
    for path in folder.glob(".*.part.*"):
        match = _ASIDE.fullmatch(path.name)
        if match is None or match["stem"] != stem:
            continue
        if match["host"] == _host():
            dead = not _alive(int(match["pid"]))
        else:
            with contextlib.suppress(OSError):
                dead = time.time() - path.stat().st_mtime > _FORGOTTEN
        if dead:
            path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    """Tell whether another process of that id lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write_json(document: dict[str, Any], path: Path) -> None:
    """Write a document under its name only when it is whole."""
    draft = aside(path.parent, path.stem, ".json")
    try:
        with draft.open("w", encoding="utf-8") as file:
            json.dump(document, file, indent=1, ensure_ascii=False, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_collection(folder: Path, *, title: str, chain: Chain, item: Item | None = None) -> None:
    """Make the folder a STAC collection, unless it is one: ``cupola.open(folder)`` and other tools read it."""
    path = folder / "collection.json"
    if path.exists():
        return
    source = chain.collection if item is None else None
    box = source.bbox if source else (item.bbox if item else None)
    times = [entry.datetime for entry in (source or [item]) if entry and entry.datetime]
    span = [f"{min(times):%Y-%m-%dT%H:%M:%SZ}", f"{max(times):%Y-%m-%dT%H:%M:%SZ}"] if times else [None, None]
    _write_json(
        {
            "type": "Collection",
            "stac_version": _STAC,
            "id": folder.name,
            "title": title,
            "description": f"{chain.label}, computed by Cupola.",
            "license": "other",
            "extent": {
                "spatial": {"bbox": [list(box) if box else [-180.0, -90.0, 180.0, 90.0]]},
                "temporal": {"interval": [span]},
            },
            "links": [],
        },
        path,
    )


def write_item(  # noqa: PLR0913 - a product has that much to say
    tif: Path,
    chain: Chain,
    item: Item,
    *,
    packing: Packing,
    inputs: Mapping[str, Any],
    provenance: Mapping[str, Any],
    statistics: list[dict[str, float]] | None = None,
) -> Path:
    """Write the STAC item of a product beside it: what it is, and how it was made."""
    image = describe(str(tif))
    box = image_box(image)
    size, digest = checksum(str(tif))
    said = dict(provenance)
    title = str(said.pop("job", None) or chain.label)
    body = item.body
    bands = [
        {
            "name": f"b{number}",
            "data_type": packing.dtype,
            "nodata": "nan" if math.isnan(packing.nodata) else packing.nodata,
            **({"raster:scale": packing.scale, "raster:offset": 0.0} if packing.scale != 1.0 else {}),
            **({"statistics": statistics[number - 1]} if statistics else {}),
        }
        for number in range(1, image.count + 1)
    ]
    properties: dict[str, Any] = {
        "title": title,
        **_times(item),
        "created": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
        "proj:shape": [image.height, image.width],
        "proj:transform": [float(value) for value in image.transform[:6]],
        **_projection(image.crs),
        "processing:expression": {"format": "cupola-chain", "expression": json.loads(chain.to_json())},
        "processing:software": software(),
        "processing:datetime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "processing:lineage": f"{chain.label} of {item.id}",
        "cupola:chain": chain.hash,
        "cupola:functions": describe_function(chain),
        "cupola:version": datalab_version(),
        "cupola:inputs": [dict(inputs)],
        "cupola:by": said.pop("by", None),
        "cupola:parameters": said,
    }
    extensions = list(_EXTENSIONS)
    if body is not None and body.name != "Earth":
        properties["ssys:targets"] = [body.name]
        extensions.append(_SSYS)
    document: dict[str, Any] = {
        "type": "Feature",
        "stac_version": _STAC,
        "stac_extensions": extensions,
        "id": tif.stem,
        "collection": _collection_id(tif.parent),
        "geometry": _geometry(box),
        "properties": properties,
        "links": [
            {"rel": "collection", "href": "./collection.json", "type": "application/json"},
            {"rel": "derived_from", "href": str(item.path or inputs["files"][0]["href"]), "title": item.id},
        ],
        "assets": {
            "data": {
                "href": f"./{tif.name}",
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "title": title,
                "roles": ["data"],
                "bands": bands,
                "file:size": size,
                "file:checksum": digest,
            }
        },
    }
    if box is not None:
        document["bbox"] = list(box)
    path = tif.with_suffix(".json")
    _write_json(document, path)
    return path


def _collection_id(folder: Path) -> str:
    try:
        return str(json.loads((folder / "collection.json").read_text(encoding="utf-8"))["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return folder.name


def _times(item: Item) -> dict[str, Any]:
    """Return the time of the input; STAC wants one, so an image without a time gets none and a span of nothing."""
    if item.datetime is None:
        return {"datetime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
    start = f"{item.datetime:%Y-%m-%dT%H:%M:%S.%fZ}"
    if item.end is None or item.end == item.datetime:
        return {"datetime": start}
    return {"datetime": start, "start_datetime": start, "end_datetime": f"{item.end:%Y-%m-%dT%H:%M:%S.%fZ}"}


def _projection(crs: Any) -> dict[str, Any]:
    """Return the coordinate system: by code where it has one, else in full (planets have none)."""
    if not crs:
        return {"proj:code": None}
    authority = crs.to_authority()
    if authority:
        return {"proj:code": ":".join(authority)}
    return {"proj:code": None, "proj:wkt2": crs.to_wkt(version="WKT2_2019")}


def _geometry(box: Box | None) -> dict[str, Any] | None:
    """Return a box as GeoJSON, cut in two at the antimeridian."""
    if box is None:
        return None
    west, south, east, north = box
    if west <= east:
        return {"type": "Polygon", "coordinates": [_ring(west, south, east, north)]}
    parts = [_ring(west, south, 180.0, north), _ring(-180.0, south, east, north)]
    return {"type": "MultiPolygon", "coordinates": [[part] for part in parts]}


def _ring(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]
