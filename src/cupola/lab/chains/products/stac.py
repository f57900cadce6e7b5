"""The STAC documents of products: what each is, and how it was made."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cupola.lab.bodies import EARTH, SKY, code_of_crs
from cupola.lab.chains.products.provenance import checksum, datalab_version, describe_function, software
from cupola.lab.collections.footprint import box_geometry, image_box
from cupola.lab.collections.images import describe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cupola.lab.bodies import Body
    from cupola.lab.chains.chain import Chain
    from cupola.lab.chains.products.look import Look
    from cupola.lab.chains.products.packing import Packing
    from cupola.lab.chains.products.statistics import Statistics
    from cupola.lab.collections.footprint import Box
    from cupola.lab.collections.images import Image
    from cupola.lab.collections.items import Item

__all__ = ["Made", "collection_document", "item_document"]

_STAC = "1.1.0"
_SHOWN = 5
"""Most items named in a sentence."""
_EXTENSIONS = [
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
]
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_FITS = "image/fits"
_CLASSES = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"
_SSYS = "https://stac-extensions.github.io/ssys/v1.1.1/schema.json"


@dataclass(frozen=True)
class Made:
    """How a product was made."""

    chain: Chain
    items: Sequence[Item]
    """That it was made from."""
    packing: Packing
    look: Look
    statistics: Statistics
    inputs: Sequence[Mapping[str, Any]]
    """The input items and the checksums of their files."""
    said: Mapping[str, Any]
    """What the caller wants to be told: ``job``, ``by``, and parameters."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further properties."""

    @property
    def body(self) -> Body | None:
        """The body it shows."""
        return next((body for item in self.items if (body := item.body) is not None), None)


def collection_document(name: str, title: str, chain: Chain, box: Box | None = None) -> dict[str, Any]:
    """Return the STAC collection of a folder of products; it covers `box`, or what the chain's collection covers."""
    source = chain.collection
    box = box or source.bbox
    times = [item.datetime for item in source if item.datetime]
    return {
        "type": "Collection",
        "stac_version": _STAC,
        "id": name,
        "title": title,
        "description": f"{chain.label} over {source.title or source.id}, computed by Cupola.",
        "license": "other",
        "extent": {
            "spatial": {"bbox": [list(box) if box else [-180.0, -90.0, 180.0, 90.0]]},
            "temporal": {"interval": [[_time(min(times)), _time(max(times))] if times else [None, None]]},
        },
        "links": [],
    }


def item_document(pixels: Path, final: Path, collection: str, made: Made) -> dict[str, Any]:
    """Return the STAC item of a product.

    Parameters
    ----------
    pixels
        The product's file as it lies now.
    final
        The name it will have.
    collection
        Id of the collection it belongs to.
    made
        How it was made.
    """
    image = describe(str(pixels))
    box = image_box(image)
    body = made.body
    foreign = body is not None and body.name not in (EARTH.name, SKY.name)
    classes = any(band.classes for band in made.look.bands)
    document: dict[str, Any] = {
        "type": "Feature",
        "stac_version": _STAC,
        "stac_extensions": [*_EXTENSIONS, *([_CLASSES] if classes else []), *([_SSYS] if foreign else [])],
        "id": final.stem,
        "collection": collection,
        "geometry": box_geometry(box),
        "properties": {
            "title": _title(made),
            **_times(made.items),
            **_projection(image),
            **({"ssys:targets": [body.name]} if foreign and body else {}),
            **_processing(made),
            **made.extra,
        },
        "links": [
            {"rel": "collection", "href": "./collection.json", "type": "application/json"},
            *_origins(made),
        ],
        "assets": {"data": _asset(pixels, final, made)},
    }
    if box is not None:
        document["bbox"] = list(box)
    return document


def _origins(made: Made) -> list[dict[str, Any]]:
    """Return links to the items it was made from."""
    places = {entry["item"]: next((file["href"] for file in entry["files"]), None) for entry in made.inputs}
    links = []
    for item in made.items:
        href = item.path or places.get(item.id)
        if href is not None:
            links.append({"rel": "derived_from", "href": str(href), "title": item.id})
    return links


def _title(made: Made) -> str:
    return str(made.said.get("job") or made.chain.label)


def _processing(made: Made) -> dict[str, Any]:
    """Return how the product was made, in the words of the processing extension and our own."""
    now = _time(datetime.now(UTC))
    return {
        "created": now,
        "processing:datetime": now,
        "processing:expression": {"format": "cupola-chain", "expression": json.loads(made.chain.to_json())},
        "processing:lineage": _lineage(made),
        "processing:software": software(),
        "cupola:by": made.said.get("by"),
        "cupola:chain": made.chain.hash,
        "cupola:functions": describe_function(made.chain),
        "cupola:inputs": [dict(entry) for entry in made.inputs],
        "cupola:job": made.said.get("job_id"),
        "cupola:parameters": {
            key: value for key, value in made.said.items() if key not in ("job", "job_id", "by")
        },
        "cupola:stored": made.packing.to_json(),
        "cupola:version": datalab_version(),
    }


def _lineage(made: Made) -> str:
    """Say in words what it was made from."""
    names = [item.id for item in made.items]
    if len(names) == 1:
        return f"{made.chain.label} of {names[0]}"
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return f"{made.chain.label} of {len(names):,} items ({shown})"


def _asset(pixels: Path, final: Path, made: Made) -> dict[str, Any]:
    """Return the product's file: what its numbers mean, and its checksum."""
    packing = made.packing
    size, digest = checksum(str(pixels))
    scale = {"raster:scale": packing.scale, "raster:offset": 0.0} if packing.scale != 1.0 else {}
    nodata = packing.to_json()["nodata"]
    return {
        "href": f"./{final.name}",
        "type": _FITS if final.suffix == ".fits" else _COG,
        "title": _title(made),
        "roles": ["data"],
        "bands": [
            {
                "name": band.name,
                "data_type": packing.dtype,
                "nodata": nodata,
                **scale,
                **({"unit": band.unit} if band.unit else {}),
                **({"classification:classes": list(band.classes)} if band.classes else {}),
                "statistics": made.statistics.to_json(number),
            }
            for number, band in enumerate(made.look.bands)
        ],
        "file:size": size,
        "file:checksum": digest,
    }


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"


def _times(items: Sequence[Item]) -> dict[str, Any]:
    """Return the time of the inputs. STAC insists on one: for images that have none, it is that of the product."""
    spans = [(item.datetime, item.end or item.datetime) for item in items if item.datetime is not None]
    if not spans:
        return {"datetime": _time(datetime.now(UTC))}
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    if last == first:
        return {"datetime": _time(first)}
    if len(items) == 1:
        return {"datetime": _time(first), "start_datetime": _time(first), "end_datetime": _time(last)}
    return {"datetime": None, "start_datetime": _time(first), "end_datetime": _time(last)}


def _projection(image: Image) -> dict[str, Any]:
    """Return the grid, and the coordinate system: by code where it has one, in full where that is not EPSG's.

    A FITS file has its own description of the sky, which no code stands for.
    """
    if image.curved is not None:
        return {"proj:shape": [image.height, image.width], "proj:code": None}
    grid: dict[str, Any] = {
        "proj:shape": [image.height, image.width],
        "proj:transform": [float(value) for value in image.transform[:6]],
        "proj:code": None,
    }
    if image.crs:
        grid["proj:code"] = code = code_of_crs(image.crs)
        if code is None or not code.startswith("EPSG"):
            # Few programs know the IAU's codes.
            grid["proj:wkt2"] = image.crs.to_wkt(version="WKT2_2019")
    return grid
