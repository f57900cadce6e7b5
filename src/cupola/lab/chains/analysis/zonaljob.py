"""Zonal statistics as a job: tasks write parts of the table, and the last of them puts the table together.

Parts appear under their names only when they are whole, so that a killed task leaves nothing half; whoever finds all parts
there writes the table. Two tasks that end at once write the same table twice, the later over the earlier.
"""

from __future__ import annotations

import datetime as dt
import getpass
import json
import math
import os
import shutil
import uuid
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from cupola.exceptions import InputError, NotFoundError
from cupola.lab.chains.analysis.zonal import Zonal, empty, of_item
from cupola.lab.chains.chain import Chain
from cupola.lab.chains.products.cog import disk_errors
from cupola.lab.chains.products.files import collection_id, write_collection, write_json
from cupola.lab.chains.products.provenance import describe_function, describe_inputs, software
from cupola.lab.chains.runs.run import _new_folder, _root
from cupola.lab.collections.wording import capital

if TYPE_CHECKING:
    import geopandas

    from cupola.lab.jobs import Job
    from cupola.lab.jobs.options import Options

__all__ = ["TABLE", "WriteStatistics", "run"]

TABLE = "statistics"
"""Name of the table's files, without ending."""
_PARTS = ".parts"
_REGIONS = ".parts/regions.parquet"
_TOGETHER = 200
"""Regions of one task."""
_STAC = "1.1.0"


@dataclass(frozen=True)
class WriteStatistics:
    """The function that the job runs: one item, or a few regions in; a part of the table out."""

    chain: str
    folder: str
    statistics: tuple[str, ...]
    metres: float | None
    by_item: bool
    by_area: bool
    parts: tuple[str, ...]
    """Names of all parts, in the order of the table."""
    said: dict[str, Any] = field(default_factory=dict)

    def __call__(self, part: tuple[str, Any]) -> str:
        """Write a part: its name, and an item's id or the first and the last region but one."""
        import geopandas

        name, what = part
        folder = Path(self.folder)
        regions = geopandas.read_parquet(folder / _REGIONS).set_crs(None, allow_override=True)
        chain = _chain(self.chain)
        numbers = regions if self.by_item else regions.iloc[what[0] : what[1]]
        wanted = Zonal(
            chain, numbers, self.statistics, self.metres, by_item=self.by_item, by_area=self.by_area
        )
        if self.by_item:
            wanted = of_item(wanted, what)
        try:
            table = wanted.compute()
            inputs = _inputs(wanted, folder)
        except NotFoundError:
            table, inputs = empty(wanted), []  # no image touches these regions
        with disk_errors(folder):
            draft = folder / _PARTS / f"{name}.{uuid.uuid4().hex[:8]}.draft"
            try:
                table.to_parquet(draft)
                write_json({"inputs": inputs}, folder / _PARTS / f"{name}.json")
                draft.replace(folder / _PARTS / f"{name}.parquet")
            finally:
                draft.unlink(missing_ok=True)
            if all((folder / _PARTS / f"{one}.parquet").is_file() for one in self.parts):
                self._together(chain, folder)
        return str(folder / f"{TABLE}.parquet")

    def _together(self, chain: Chain, folder: Path) -> None:
        """Write the table and its item, and take the parts away."""
        import geopandas
        import pandas as pd

        try:
            parts = [geopandas.read_parquet(folder / _PARTS / f"{one}.parquet") for one in self.parts]
            inputs = [
                entry
                for one in self.parts
                for entry in json.loads((folder / _PARTS / f"{one}.json").read_text())["inputs"]
            ]
        except FileNotFoundError:
            return  # another task put the table together and has taken the parts away
        crs = next((part.crs for part in parts if part.crs is not None), None)
        kept = [part.set_crs(crs, allow_override=True) for part in parts if len(part)] or parts[:1]
        table = geopandas.GeoDataFrame(pd.concat(kept, ignore_index=True), crs=crs)
        for column in table.columns:
            # Regions that no image touches have no pixels.
            if column == "count" or column.startswith("count_"):
                table[column] = table[column].fillna(0).astype("int64")
            elif "area" in self.statistics and (column == "area" or column.startswith("area_")):
                table[column] = table[column].fillna(0.0)
        if self.by_item and len(table):
            table = table.sort_values(["region", "datetime", "item"], ignore_index=True)
        mark = uuid.uuid4().hex[:8]
        for ending in ("parquet", "csv"):
            draft = folder / f".{TABLE}.{mark}.{ending}"
            try:
                if ending == "parquet":
                    table.to_parquet(draft)
                else:
                    table.drop(columns=table.geometry.name).to_csv(draft, index=False)
                draft.replace(folder / f"{TABLE}.{ending}")
            finally:
                draft.unlink(missing_ok=True)
        draft = folder / f".{TABLE}.{mark}.json"
        write_json(self._item(chain, folder, table, inputs), draft)
        draft.replace(folder / f"{TABLE}.json")
        shutil.rmtree(folder / _PARTS, ignore_errors=True)

    def _item(
        self, chain: Chain, folder: Path, table: geopandas.GeoDataFrame, inputs: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Return the STAC item of the table: what made it, of what, and how."""
        west, south, east, north = (float(number) for number in table.total_bounds)
        box = [west, south, east, north]
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        unique = {entry["item"]: entry for entry in inputs}
        body = chain.body
        return {
            "type": "Feature",
            "stac_version": _STAC,
            "stac_extensions": ["https://stac-extensions.github.io/processing/v1.2.0/schema.json"],
            "id": TABLE,
            "collection": collection_id(folder),
            "bbox": box,
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {
                "title": f"Statistics of {chain.label} in {len(table):,} rows",
                "datetime": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
                **({"ssys:targets": [body.name]} if body is not None and body.name != "Earth" else {}),
                "processing:expression": {
                    "format": "cupola-chain",
                    "expression": json.loads(chain.to_json()),
                },
                "processing:lineage": (
                    f"{', '.join(self.statistics)} of {chain.label} in the regions of the table"
                    f"{', image by image' if self.by_item else ''}"
                ),
                "processing:software": software(),
                "cupola:by": self.said.get("by"),
                "cupola:job": os.environ.get("CUPOLA_JOB"),
                "cupola:chain": chain.hash,
                "cupola:functions": describe_function(chain),
                "cupola:inputs": list(unique.values()),
                "cupola:parameters": {
                    "statistics": list(self.statistics),
                    "metres": self.metres,
                    "by_item": self.by_item,
                    "by_area": self.by_area,
                    "rule": "the centre of the pixel lies in the region or on its border",
                },
            },
            "links": [{"rel": "collection", "href": "./collection.json", "type": "application/json"}],
            "assets": {
                "data": {
                    "href": f"./{TABLE}.parquet",
                    "type": "application/vnd.apache.parquet",
                    "roles": ["data"],
                },
                "csv": {"href": f"./{TABLE}.csv", "type": "text/csv", "roles": ["data"]},
            },
        }


def _inputs(wanted: Zonal, folder: Path) -> list[dict[str, Any]]:
    """Return the items that were read, with the checksums of their files."""
    found = []
    names = dict.fromkeys(wanted.chain.bands)
    for item in wanted.items:
        files = {
            band.path: None
            for name in names
            if name in item.bands or not item.bands
            for band in item.band(name)
        }
        found.append(describe_inputs(item, list(files), folder / _PARTS / "checksums"))
    return found


@lru_cache(maxsize=4)
def _chain(text: str) -> Chain:
    return Chain.from_json(text)


def run(wanted: Zonal, name: str, **options: Unpack[Options]) -> Job:
    """Compute statistics as a job; see `Zonal.run`."""
    from cupola.lab import jobs

    title = str(name).strip()
    if not title:
        raise InputError("Give the job a name, such as zonal.run('ndvi-by-field').")
    items = wanted.items
    if not items:
        raise NotFoundError(f"{capital(wanted.chain.collection)} has no image that touches the regions.")
    for band in wanted.chain.bands:
        items[0].band(band)
    inputs: list[tuple[str, Any]]
    if wanted.by_item:
        inputs = [(f"{number:06d}", item.id) for number, item in enumerate(items)]
        labels = [item.id for item in items]
    else:
        count = math.ceil(len(wanted.regions) / _TOGETHER)
        inputs = [
            (f"{number:06d}", (number * _TOGETHER, min((number + 1) * _TOGETHER, len(wanted.regions))))
            for number in range(count)
        ]
        labels = [f"regions {first} to {last - 1}" for _, (first, last) in inputs]
    folder = _new_folder(_root(), title)
    try:
        write_collection(folder, title=title, chain=wanted.chain)
        (folder / _PARTS).mkdir()
        wanted.regions.to_parquet(folder / _REGIONS)
        task = WriteStatistics(
            chain=wanted.chain.to_json(),
            folder=str(folder),
            statistics=wanted.statistics,
            metres=wanted.metres,
            by_item=wanted.by_item,
            by_area=wanted.by_area,
            parts=tuple(name for name, _ in inputs),
            said={"by": os.environ.get("JUPYTERHUB_USER") or getpass.getuser()},
        )
        return jobs.submit(
            title, task, inputs, labels=labels, source=wanted.chain.source, products=folder, **options
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # nothing was submitted: the name is free for the next try
        raise
