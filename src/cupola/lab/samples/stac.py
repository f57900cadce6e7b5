"""STAC documents of the sample archive: catalog, collections and items, with relative addresses only."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = [
    "CREATED",
    "Collected",
    "bounds",
    "image_fields",
    "north_up",
    "outline",
    "write_catalog",
    "write_collection",
    "write_item",
]

CREATED = "2026-11-21T00:00:00Z"
"""The archive's own date: a real one would make each archive differ."""

_STAC = "1.1.0"
_SCHEMAS = {
    "eo": "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
    "grid": "https://stac-extensions.github.io/grid/v1.1.0/schema.json",
    "mgrs": "https://stac-extensions.github.io/mgrs/v1.0.0/schema.json",
    "proj": "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "raster": "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "ssys": "https://stac-extensions.github.io/ssys/v1.1.1/schema.json",
    "view": "https://stac-extensions.github.io/view/v1.0.0/schema.json",
}


@dataclass(frozen=True)
class Collected:
    """What the archive's catalog says about a collection."""

    id: str
    title: str
    description: str
    keywords: Sequence[str] = ()


def north_up(left: float, top: float, pixel: float) -> Affine:
    """Return the transform of an image with square pixels whose rows go south."""
    return Affine(pixel, 0.0, left, 0.0, -pixel, top)


def outline(crs: CRS, place: Affine, corners: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Return the GeoJSON polygon, in degrees of the body's own longitude and latitude, around pixels.

    Parameters
    ----------
    crs, place
        Of the image, which has its north up.
    corners
        (column, row), counter-clockwise.
    """
    points = [(place.c + place.a * column, place.f + place.e * row) for column, row in corners]
    ring = [*points, points[0]]
    # Straight edges of a projected image are curved in degrees: four points for each keep them true.
    x, y = (
        np.concatenate(
            [np.linspace(a[axis], b[axis], 4, endpoint=False) for a, b in itertools.pairwise(ring)]
        )
        for axis in (0, 1)
    )
    longitudes, latitudes = transform(crs, _degrees(crs), x.tolist(), y.tolist())
    found = [[round(lon, 7), round(lat, 7)] for lon, lat in zip(longitudes, latitudes, strict=True)]
    return {"type": "Polygon", "coordinates": [[*found, found[0]]]}


def _degrees(crs: CRS) -> CRS:
    """Return the longitude and latitude that belong to a projected system."""
    if crs.to_epsg():
        return CRS.from_epsg(4326)
    radius = crs.to_dict()["R"]
    return CRS.from_proj4(f"+proj=longlat +R={radius} +no_defs")


def bounds(geometry: Mapping[str, Any]) -> list[float]:
    """Return west, south, east, north of a polygon."""
    ring = np.array(geometry["coordinates"][0])
    return [float(value) for value in (*ring.min(axis=0), *ring.max(axis=0))]


def image_fields(crs: CRS, shape: Sequence[int], transform: Affine) -> dict[str, Any]:
    """Return the projection extension's fields of an image."""
    code = crs.to_epsg()
    fields: dict[str, Any] = {"proj:code": f"EPSG:{code}" if code else None}
    if not code:
        fields["proj:wkt2"] = crs.to_wkt(version="WKT2_2019")
        fields["proj:projjson"] = crs.to_dict(projjson=True)
    return {**fields, "proj:shape": list(shape), "proj:transform": [float(v) for v in transform[:6]]}


def write_item(  # noqa: PLR0913 - an item has that many parts
    path: Path,
    collection: str,
    *,
    geometry: Mapping[str, Any] | None,
    properties: Mapping[str, Any],
    assets: Mapping[str, Mapping[str, Any]],
    links: Sequence[Mapping[str, Any]] = (),
    box: Sequence[float] | None = None,
) -> None:
    """Write a STAC item; its id is the file's stem, and its collection lies one folder above its own.

    `box` is for a geometry whose box is not that of its points: one around a pole.
    """
    document: dict[str, Any] = {
        "type": "Feature",
        "stac_version": _STAC,
        "stac_extensions": _extensions(properties, assets),
        "id": path.stem,
        "collection": collection,
        "geometry": geometry,
        **({"bbox": list(box) if box else bounds(geometry)} if geometry else {}),
        "properties": {"created": CREATED, "updated": CREATED, "license": "CC0-1.0", **properties},
        "links": [
            {"rel": "root", "href": "../../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "../collection.json", "type": "application/json"},
            {"rel": "collection", "href": "../collection.json", "type": "application/json"},
            *links,
        ],
        "assets": assets,
    }
    _write(path, document)


def _extensions(properties: Mapping[str, Any], assets: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the schemas of the extensions whose fields occur."""
    used = set(properties)
    for asset in assets.values():
        used.update(asset)
        for band in asset.get("bands", ()):
            used.update(band)
    prefixes = {name.partition(":")[0] for name in used if ":" in name}
    return [address for prefix, address in _SCHEMAS.items() if prefix in prefixes]


def write_collection(folder: Path, about: Collected, *, summaries: Mapping[str, Any] | None = None) -> None:
    """Write ``collection.json`` into `folder`: extent and links come from the items that lie in its folders."""
    items = {path: json.loads(path.read_bytes()) for path in sorted(folder.glob("*/*.json"))}
    boxes = np.array([item["bbox"] for item in items.values() if "bbox" in item])
    box = [*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)] if boxes.size else [-180, -90, 180, 90]
    times = sorted(item["properties"]["datetime"] for item in items.values())
    said = dict(summaries or {})
    document: dict[str, Any] = {
        "type": "Collection",
        "stac_version": _STAC,
        "stac_extensions": [_SCHEMAS["ssys"]] if "ssys:targets" in said else [],
        "id": about.id,
        "title": about.title,
        "description": about.description,
        "keywords": ["made-up data", *about.keywords],
        "license": "CC0-1.0",
        "providers": [{"name": "Cupola", "roles": ["producer", "licensor"]}],
        "extent": {
            "spatial": {"bbox": [[float(value) for value in box]]},
            "temporal": {"interval": [[times[0], times[-1]]]},
        },
        **({"summaries": said} if said else {}),
        "links": [
            {"rel": "root", "href": "../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "../catalog.json", "type": "application/json"},
            *(
                {
                    "rel": "item",
                    "href": f"./{path.relative_to(folder).as_posix()}",
                    "type": "application/geo+json",
                }
                for path in items
            ),
        ],
    }
    _write(folder / "collection.json", document)


def write_catalog(folder: Path, collections: Sequence[Collected]) -> None:
    """Write ``catalog.json`` into the archive's folder."""
    document = {
        "type": "Catalog",
        "stac_version": _STAC,
        "id": "cupola-sample-archive",
        "title": "Cupola's sample archive",
        "description": "Made-up images of Earth, Mars and the sky, to try things with. Nothing in it was measured.",
        "links": [
            {"rel": "root", "href": "./catalog.json", "type": "application/json"},
            *(
                {
                    "rel": "child",
                    "href": f"./{about.id}/collection.json",
                    "type": "application/json",
                    "title": about.title,
                }
                for about in collections
            ),
        ],
    }
    _write(folder / "catalog.json", document)


def _write(path: Path, document: Mapping[str, Any]) -> None:
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
