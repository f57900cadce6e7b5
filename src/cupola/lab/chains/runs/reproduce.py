"""Making a product again, from what its item says, and comparing the two."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from cupola.exceptions import (
    ConflictError,
    CupolaError,
    InputError,
    NotFoundError,
    TaskError,
    UnavailableError,
)
from cupola.lab.chains.chain import Chain
from cupola.lab.chains.compute.planning import OutputGrid
from cupola.lab.chains.products.files import read_product
from cupola.lab.chains.products.provenance import checksum, datalab_version, tree_checksum
from cupola.lab.chains.runs.comparing import compare
from cupola.lab.chains.runs.run import ItemInput, PieceInput, WritePiece, WriteProduct
from cupola.lab.collections.images import local_path

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from cupola.lab.chains.runs.comparing import Comparison

__all__ = ["InputState", "Report", "reproduce", "worst"]

_SHOWN = 5


@dataclass(frozen=True)
class InputState:
    """One file that the product was made from, as it is now."""

    item: str
    href: str
    state: str
    """``same``, ``changed``, ``missing``, or ``unknown``: an address, of which no checksum was kept."""


@dataclass(frozen=True)
class Report:
    """What came of making a product again."""

    item: str
    """The product's item."""
    state: str
    """``identical``, ``different``, or ``inputs-changed``: then nothing was made."""
    inputs: tuple[InputState, ...]
    product_changed: bool
    """Whether the product's own file is another than its item says."""
    made_by: str | None
    """Digest of the datalab version that made the product."""
    made_again_by: str | None
    """Digest of the version that made it again; nothing outside of sessions."""
    comparison: Comparison | None = None
    note: str | None = None
    """Why another version was taken than the product's."""

    @property
    def identical(self) -> bool:
        """Whether all pixels came out the same."""
        return self.state == "identical"

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON can hold it."""
        return asdict(self)

    @override
    def __str__(self) -> str:
        return " ".join(part for part in (self._told(), self._of_product(), self.note) if part)

    def _told(self) -> str:
        name = Path(self.item).stem
        if self.state == "inputs-changed":
            parts = [
                f"{one.href} is {one.state}" for one in self.inputs if one.state in ("changed", "missing")
            ]
            more = f" and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
            return (
                f"{name} cannot be made again from the same inputs: {', '.join(parts[:_SHOWN])}{more}; "
                "bring them back, or compare all the same with anyway."
            )
        found = self.comparison
        if found is None or found.identical:
            return f"{name} is identical: all {found.pixels if found else 0:,} pixels came out the same."
        if found.unlike:
            return f"{name} is different: {found.unlike}."
        where = ""
        if found.box is not None:
            west, south, east, north = found.box
            where = f", within {west:.5f} ... {east:.5f} degrees east and {south:.5f} ... {north:.5f} degrees north"
        elif found.window is not None:
            left, top, width, height = found.window
            where = f", within columns {left} ... {left + width - 1} and rows {top} ... {top + height - 1}"
        return f"{name} is different: {found.different:,} of {found.pixels:,} pixels, by {found.largest:g} at most{where}."

    def _of_product(self) -> str:
        return "The product's file was changed after it was written." if self.product_changed else ""


def reproduce(
    item: str | os.PathLike[str],
    *,
    folder: str | os.PathLike[str] | None = None,
    anyway: bool = False,
    here: bool = False,
) -> Report:
    """Make a product again as its item says, and compare it with the one that is there.

    The files it was made from are looked at first: where one is missing or has another checksum, nothing is made. In
    a session the product is made by the version of the datalab that made it, as a job where that is another one.

    Parameters
    ----------
    item
        The product's STAC item (``.json``), or its file beside it.
    folder
        Where the new product is kept; nowhere where nothing is said.
    anyway
        Make it even where inputs have changed.
    here
        Make it in this process, whatever version it was made by.

    Returns
    -------
    report
        Its ``state`` is ``identical``, ``different`` or ``inputs-changed``; it tells how many pixels differ, by how
        much and where.

    Raises
    ------
    InputError
        When this is no product, or its item does not say how it was made.
    NotFoundError
        When there is no such file.
    TaskError
        When it could not be made again.
    """
    path = Path(item).with_suffix(".json")
    document = _document(path)
    said = document["properties"]
    product, changed = _product(path, document)
    inputs = tuple(_inputs(said))
    made_by = said.get("cupola:version")
    if not anyway and any(one.state in ("changed", "missing") for one in inputs):
        return Report(str(path), "inputs-changed", inputs, changed, made_by, None)
    with _folder(folder) as place:
        task, source = _task(said, document, str(place))
        version, note = _made(task, source, made_by, path.stem, here=here)
        found = next(iter(sorted(place.glob(f"*{product.suffix}"))), None)
        if found is None:
            raise TaskError(f"{path.stem} came out empty: no pixel has a value this time.")
        comparison = compare(product, found)
    state = "identical" if comparison.identical else "different"
    return Report(str(path), state, inputs, changed, made_by, version, comparison, note)


def _document(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise NotFoundError(f"There is no item {path}: name a product's .json, or its .tif beside it.")
    document = read_product(path)
    if document is None or "cupola:chain" not in document["properties"]:
        raise InputError(f"{path} is no product of Cupola: it does not say how it was made.")
    if "statistics" in (document["properties"].get("cupola:parameters") or {}):
        raise InputError(
            f"{path} tells of a table, and only images can be made again and compared: run zonal() again, with the "
            "chain and the parameters that it names."
        )
    return document


def _product(path: Path, document: dict[str, Any]) -> tuple[Path, bool]:
    """Return the product's file, and whether it is another than its item says."""
    asset = document["assets"].get("data") or {}
    product = (path.parent / str(asset.get("href", ""))).resolve()
    if not product.is_file():
        raise NotFoundError(f"The product's file {product} is not there any more.")
    return product, checksum(str(product))[1] != asset.get("file:checksum")


def _inputs(said: dict[str, Any]) -> Iterator[InputState]:
    """Yield the files that it was made from, as they are now."""
    for entry in said.get("cupola:inputs", []):
        for file in entry.get("files", []):
            href = str(file.get("href"))
            yield InputState(str(entry.get("item")), href, _state(href, file))


def _state(href: str, file: dict[str, Any]) -> str:
    place = local_path(href)
    if place is None:
        return "unknown"
    path = Path(place)
    if "cupola:tree" in file:
        same = path.is_dir() and tree_checksum(path) == file["cupola:tree"]
        return "same" if same else "changed" if path.is_dir() else "missing"
    if not path.is_file():
        return "missing"
    if "file:checksum" not in file:
        return "unknown"
    same = path.stat().st_size == file.get("file:size") and checksum(str(path))[1] == file["file:checksum"]
    return "same" if same else "changed"


def _task(
    said: dict[str, Any], document: dict[str, Any], folder: str
) -> tuple[WriteProduct | WritePiece, ItemInput | PieceInput]:
    """Return what the product's job ran for it, and its input."""
    expression = said.get("processing:expression") or {}
    text = json.dumps(expression.get("expression"))
    chain = Chain.from_json(text)
    stored = said.get("cupola:stored") or {}
    nodata = stored.get("nodata")
    if "cupola:state" in said and chain.hash != said["cupola:chain"]:
        raise InputError(
            f"The chain in {document.get('id')} is not the one that its hash stands for: somebody changed the item."
        )
    whole = stored.get("scale") in (None, 1.0)
    common: dict[str, Any] = {
        "chain": text,
        "folder": folder,
        "dtype": str(stored.get("dtype", "float32")),
        "scale": None if whole else float(stored["scale"]),
        "nodata": None if nodata in (None, "nan") else float(nodata),
    }
    used = [str(entry.get("item")) for entry in said.get("cupola:inputs", [])]
    if "cupola:grid" not in said:
        return WriteProduct(**common), _item(chain, used[0], document)
    grid, piece = OutputGrid.from_json(said["cupola:grid"]), said["cupola:piece"]
    task = WritePiece(**common, grid=grid.to_json(), name="again", only=tuple(used))
    return task, PieceInput(*piece)


def _item(chain: Chain, name: str, document: dict[str, Any]) -> ItemInput:
    """Return the item it was made from: from where its link leads, else from the collection."""
    for link in document.get("links", []):
        if link.get("rel") == "derived_from" and link.get("title") == name:
            href = str(link.get("href"))
            source = ItemInput(name, href, stac=href.endswith((".json", ".geojson")))
            try:
                source.item()
            except CupolaError:
                break
            return source
    return ItemInput.of(chain.collection.item(name))


def _made(
    task: WriteProduct | WritePiece,
    source: ItemInput | PieceInput,
    made_by: str | None,
    name: str,
    *,
    here: bool,
) -> tuple[str | None, str | None]:
    """Make the product, in the version that made it where that is to be had; return the version, and why another."""
    now = datalab_version()
    if here or made_by in (None, now):
        task(source)  # type: ignore[arg-type]  # each task has its own kind of input
        return now, None
    shown = str(made_by).removeprefix("sha256:")[:12]
    try:
        _as_job(task, source, str(made_by), name)
    except (ConflictError, NotFoundError, UnavailableError) as error:
        task(source)  # type: ignore[arg-type]
        return now, f"The version {shown} that made it was not to be had ({str(error).rstrip('.')})."
    return made_by, None


def _as_job(task: WriteProduct | WritePiece, source: ItemInput | PieceInput, version: str, name: str) -> None:
    """Make the product in a task of another version."""
    from cupola.exceptions import NotSignedInError
    from cupola.lab import jobs

    try:
        job = jobs.submit(
            f"Reproduce {name}"[:100],
            task,
            [source],
            labels=[name],
            source=Chain.from_json(task.chain).source,
            version=version,
            notify=False,
        )
    except NotSignedInError as error:
        raise UnavailableError("no session of a platform to run it in") from error
    job.wait(progress=False)
    job.result(0)


@contextmanager
def _folder(folder: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Give an empty folder that tasks see as well; it goes again unless it was asked for."""
    if folder is not None:
        place = Path(folder).expanduser().absolute()
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()):
            raise InputError(f"The folder {place} is not empty: name a new one for what is made again.")
        yield place
        return
    root = Path.home() / ".cupola" / "reproduce"
    root.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=root))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def worst(reports: Sequence[Report]) -> str:
    """Return the state that stands for all of them."""
    states = {report.state for report in reports}
    return next((state for state in ("inputs-changed", "different") if state in states), "identical")
