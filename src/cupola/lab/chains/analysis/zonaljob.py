"""Zonal statistics as a job: tasks write parts of the table, and the last of them puts the table together.

A part's name says what it is of and in which state its images were: one that is there is whole, and stays for runs that go
on with the table when images have come or a task was killed. Each run notes which parts it has seen to; whoever finds all
of them noted writes the table. Two tasks that end at once write the same table twice, the later over the earlier.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import getpass
import hashlib
import json
import math
import os
import shutil
import time
import uuid
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from cupola.exceptions import InputError, NotFoundError
from cupola.lab.chains.analysis.zonal import Zonal, box_of, empty, of_item
from cupola.lab.chains.chain import Chain
from cupola.lab.chains.products.cog import disk_errors
from cupola.lab.chains.products.files import (
    aside,
    collection_id,
    read_product,
    sweep,
    write_collection,
    write_json,
)
from cupola.lab.chains.products.provenance import describe_function, describe_inputs, software, state_of
from cupola.lab.chains.runs.composite import Candidate, candidates
from cupola.lab.chains.runs.run import _new_folder, _root, _same_folder
from cupola.lab.collections.wording import capital

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import geopandas

    from cupola.lab.jobs import Job
    from cupola.lab.jobs.options import Options

__all__ = ["TABLE", "WriteStatistics", "run"]

TABLE = "statistics"
"""Name of the table's files, without ending."""
_PARTS = ".parts"
_REGIONS = ".parts/regions.parquet"
_DRAFTS = ".parts/drafts"
_CHECKSUMS = ".parts/checksums"
_TOGETHER = 200
"""Regions of one task."""
_STALE = 7 * 86_400
"""Seconds after which what a run noted is taken for left behind."""
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
    run: str = "run"
    """Tells this run from others over the same table."""

    def __call__(self, part: tuple[str, Any]) -> str:
        """Write a part, unless it is there: its name, and an item's id or the first and the last region but one."""
        name, what = part
        folder = Path(self.folder)
        chain = _chain(self.chain, self.run)
        wanted = self._wanted(chain, what)
        read = _items_read(wanted)
        state = state_of((one.item.id, one.files) for one in read)[:32]
        place = _place(folder, name, state)
        with disk_errors(folder):
            if not place.is_file():
                _write_part(wanted, read, place)
            with _draft(folder / _DRAFTS, name, ".txt") as draft:
                draft.write_text(state)
                self._notes.mkdir(exist_ok=True)
                draft.replace(self._notes / name)
            # From the end, as tasks begin at the front: to look at all of many thousands each time would take hours.
            if all((self._notes / one).is_file() for one in reversed(self.parts)):
                self._together(chain, folder)
        return str(folder / f"{TABLE}.parquet")

    @property
    def _notes(self) -> Path:
        """The folder in which this run's tasks note the state of the parts that they have seen to."""
        return Path(self.folder) / _PARTS / f"run-{self.run}"

    def _wanted(self, chain: Chain, what: Any) -> Zonal:
        import geopandas

        regions = geopandas.read_parquet(Path(self.folder) / _REGIONS).set_crs(None, allow_override=True)
        numbers = regions if self.by_item else regions.iloc[what[0] : what[1]]
        wanted = Zonal(
            chain, numbers, self.statistics, self.metres, by_item=self.by_item, by_area=self.by_area
        )
        return of_item(wanted, what) if self.by_item else wanted

    def _together(self, chain: Chain, folder: Path) -> None:
        """Write the table and its item, unless they are those of these parts already."""
        import geopandas

        try:
            places = [_place(folder, one, (self._notes / one).read_text()) for one in self.parts]
            state = hashlib.sha256("\n".join(place.name for place in places).encode()).hexdigest()
            if not _is_whole(folder, state):
                table = self._joined([geopandas.read_parquet(place) for place in places])
                inputs = [
                    entry
                    for place in places
                    for entry in json.loads(place.with_suffix(".json").read_text())["inputs"]
                ]
                self._publish(chain, folder, table, inputs, state)
        except FileNotFoundError:
            return  # another task put the table together and has taken the notes away
        shutil.rmtree(self._notes, ignore_errors=True)

    def _joined(self, parts: Sequence[geopandas.GeoDataFrame]) -> geopandas.GeoDataFrame:
        """Return the table that the parts make."""
        import geopandas
        import pandas as pd

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
        return table

    def _publish(
        self,
        chain: Chain,
        folder: Path,
        table: geopandas.GeoDataFrame,
        inputs: list[dict[str, Any]],
        state: str,
    ) -> None:
        """Give the table its names; its item goes first and comes last, so that it never tells of another table."""
        with (
            _draft(folder, TABLE, ".parquet") as whole,
            _draft(folder, TABLE, ".csv") as plain,
            _draft(folder, TABLE, ".json") as item,
        ):
            _write_table(table, whole)
            table.drop(columns=table.geometry.name).to_csv(plain, index=False)
            document = self._item(chain, folder, table, inputs)
            document["properties"]["cupola:state"] = state
            document["assets"]["data"]["file:size"] = whole.stat().st_size
            write_json(document, item)
            (folder / f"{TABLE}.json").unlink(missing_ok=True)
            for draft in (whole, plain, item):
                draft.replace(folder / f"{TABLE}{draft.suffix}")

    def _item(
        self, chain: Chain, folder: Path, table: geopandas.GeoDataFrame, inputs: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Return the STAC item of the table: what made it, of what, and how."""
        west, south, east, north = (float(number) for number in table.total_bounds)
        box = [west, south, east, north]
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        unique = {(entry["collection"], entry["item"]): entry for entry in inputs}
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


def _place(folder: Path, name: str, state: str) -> Path:
    """Return where a part is: in one of some hundred folders, as those of many thousands are slow to look through."""
    return folder / _PARTS / name[-2:] / f"{name}.{state}.parquet"


@contextlib.contextmanager
def _draft(folder: Path, stem: str, ending: str) -> Iterator[Path]:
    """Give a name for a file that is being written; what is left of it goes, and what killed tasks left of theirs."""
    folder.mkdir(exist_ok=True)
    sweep(folder, stem)
    draft = aside(folder, stem, ending)
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _write_table(table: geopandas.GeoDataFrame, path: Path) -> None:
    """Write a table to the disk."""
    table.to_parquet(path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _write_part(wanted: Zonal, read: Sequence[Candidate], place: Path) -> None:
    """Compute a part into its file, and those of other states go."""
    folder = place.parents[2]
    name = place.name.partition(".")[0]
    try:
        table = wanted.compute()
        inputs = [describe_inputs(one.item, one.files, folder / _CHECKSUMS) for one in read]
    except NotFoundError:
        table, inputs = empty(wanted), []  # no image touches these regions
    with (
        _draft(folder / _DRAFTS, name, ".parquet") as draft,
        _draft(folder / _DRAFTS, name, ".json") as note,
    ):
        _write_table(table, draft)
        write_json({"inputs": inputs}, note)
        place.parent.mkdir(exist_ok=True)
        note.replace(place.with_suffix(".json"))
        draft.replace(place)
    for older in place.parent.glob(f"{name}.*.*"):
        if older.stem != place.stem:
            older.unlink(missing_ok=True)


def _is_whole(folder: Path, state: str) -> bool:
    """Tell whether the table of parts in this state is there."""
    document = read_product(folder / f"{TABLE}.json")
    path = folder / f"{TABLE}.parquet"
    if document is None or document["properties"].get("cupola:state") != state or not path.is_file():
        return False
    size = document["assets"].get("data", {}).get("file:size")
    return bool(path.stat().st_size == size and (folder / f"{TABLE}.csv").is_file())


def _items_read(wanted: Zonal) -> list[Candidate]:
    """Return the items that are read for statistics, those of other collections included, and their files."""
    west, south, east, north = (float(number) for number in wanted.regions.total_bounds)
    found = candidates(wanted.chain, box_of((west, south, east, north)))
    own = (wanted.chain.program.source or wanted.chain.sources[0]).key
    touched = {item.id for item in wanted.items}
    return sorted(
        (one for source, ones in found.items() for one in ones if source != own or one.item.id in touched),
        key=lambda one: (str(one.item.collection), one.item.id),
    )


@lru_cache(maxsize=4)
def _chain(text: str, _run: str) -> Chain:
    # Each run looks at the collection anew.
    return Chain.from_json(text)


def run(wanted: Zonal, name: str, *, resume: bool = False, **options: Unpack[Options]) -> Job:
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
        # Not by number: an image that comes later must not take the name of another.
        inputs = [(hashlib.sha256(item.id.encode()).hexdigest()[:24], item.id) for item in items]
        labels = [item.id for item in items]
    else:
        count = math.ceil(len(wanted.regions) / _TOGETHER)
        inputs = [
            (f"{number:06d}", (number * _TOGETHER, min((number + 1) * _TOGETHER, len(wanted.regions))))
            for number in range(count)
        ]
        labels = [f"regions {first} to {last - 1}" for _, (first, last) in inputs]
    mark = _mark(wanted)
    folder = _same_folder(_root(), title, mark) if resume else None
    made = folder is None
    folder = folder or _new_folder(_root(), title)
    try:
        write_collection(folder, title=title, chain=wanted.chain, more=mark)
        _prepare(wanted, folder)
        task = WriteStatistics(
            chain=wanted.chain.to_json(),
            folder=str(folder),
            statistics=wanted.statistics,
            metres=wanted.metres,
            by_item=wanted.by_item,
            by_area=wanted.by_area,
            parts=tuple(name for name, _ in inputs),
            said={"by": os.environ.get("JUPYTERHUB_USER") or getpass.getuser()},
            run=uuid.uuid4().hex[:12],
        )
        return jobs.submit(
            title, task, inputs, labels=labels, source=wanted.chain.source, products=folder, **options
        )
    except BaseException:
        if made:
            shutil.rmtree(
                folder, ignore_errors=True
            )  # nothing was submitted: the name is free for the next try
        raise


def _mark(wanted: Zonal) -> dict[str, Any]:
    """Return what tells tables apart: those of another mark are not gone on with."""
    import shapely

    digest = hashlib.sha256()
    for shape in shapely.to_wkb(wanted.regions.geometry.to_numpy()):
        digest.update(shape)
    digest.update(wanted.regions.drop(columns=wanted.regions.geometry.name).to_csv().encode())
    return {
        "cupola:chain": wanted.chain.hash,
        "cupola:statistics": {
            "statistics": list(wanted.statistics),
            "metres": wanted.metres,
            "by_item": wanted.by_item,
            "by_area": wanted.by_area,
            "together": _TOGETHER,
            "regions": digest.hexdigest(),
        },
    }


def _prepare(wanted: Zonal, folder: Path) -> None:
    """Put the regions where tasks find them, and clear away what runs noted that never came to their end."""
    (folder / _PARTS).mkdir(exist_ok=True)
    if not (folder / _REGIONS).is_file():
        with _draft(folder / _DRAFTS, "regions", ".parquet") as draft:
            _write_table(wanted.regions, draft)
            draft.replace(folder / _REGIONS)
    for notes in (folder / _PARTS).glob("run-*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - notes.stat().st_mtime > _STALE:
                shutil.rmtree(notes, ignore_errors=True)
