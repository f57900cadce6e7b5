"""An external program over an image: what it reads is written for it, and what it wrote is read back."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.errors import RasterioError
from rasterio.transform import from_origin
from rasterio.windows import Window

from cupola.exceptions import InputError, ProgramError
from cupola.lab.chains.products.cog import disk_errors
from cupola.lab.collections.images import Band, describe, fingerprint, open_image, physical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from affine import Affine
    from numpy.typing import NDArray

    from cupola.lab.chains.graph.base import Step
    from cupola.lab.collections.images import Image
    from cupola.lab.collections.items import Item

__all__ = ["DRIVERS", "Program", "over_arrays", "over_item"]

DRIVERS = {".tif": "GTiff", ".cub": "ISIS3", ".vic": "VICAR", ".img": "HFA", ".bil": "ENVI"}
"""Endings of files that programs can be given, and who writes them."""

_ISIS_NULL = -3.4028226550889045e38
_FIELD = re.compile(r"\{(input|output|folder|item)\}")
_PREFIX = "cupola-command-"
_STALE = 7 * 86_400
"""Seconds; no program runs so long without writing."""
_KEPT = 2
"""Results of whole images that are kept at once: a run goes through one image after another."""

_lock = threading.RLock()
"""Of one thread several times: a command may stand on another one."""
_results: OrderedDict[tuple[Any, ...], tuple[TemporaryDirectory[str], Path]] = OrderedDict()


@dataclass(frozen=True)
class Program:
    """What is run, and on which kinds of files."""

    words: tuple[str, ...]
    input: str
    output: str
    timeout: float

    @property
    def name(self) -> str:
        """The program's own name."""
        return self.words[0]

    def run(self, folder: Path, given: Path, item: str) -> Path:
        """Run the program on a file and return what it wrote.

        Raises
        ------
        ProgramError
            When there is no such program, it fails, takes too long, or writes nothing.
        """
        from cupola.lab.isis import programs

        made = folder / f"output{self.output}"
        fields = {"input": str(given), "output": str(made), "folder": str(folder), "item": item}
        words = [_FIELD.sub(lambda match: fields[match[1]], word) for word in self.words[1:]]
        if programs._is_isis(self.name):  # noqa: SLF001 - ISIS takes its parameters by name
            pairs = dict(word.split("=", 1) for word in words if "=" in word)
            reserved = {"from": "from_"}
            named = {reserved.get(name, name): value for name, value in pairs.items()}
            programs.run(
                self.name, *(word for word in words if "=" not in word), timeout=self.timeout, **named
            )
        else:
            programs.run(self.name, *words, timeout=self.timeout)
        # Some programs put an ending of their own behind the name that they are given.
        found = made if made.is_file() else next(iter(sorted(folder.glob(f"{made.name}.*"))), None)
        if found is None:
            raise ProgramError(
                f"{self.name} ended without an error and wrote no {made.name}: give it {{output}} where it wants a name."
            )
        return found


def over_arrays(
    program: Program, values: NDArray[np.float32], place: tuple[Affine, Any] | None, item: str
) -> NDArray[np.float32]:
    """Run a program on the pixels of a window.

    Parameters
    ----------
    program
        What to run.
    values
        (bands, rows, columns), NaN where there is no data.
    place
        Transform and coordinate system, where they lie on a plane.
    item
        Id of the item, for ``{item}``.

    Raises
    ------
    ProgramError
        When it fails.
    InputError
        When it gives another number of rows or columns.
    """
    count, rows, columns = values.shape
    with TemporaryDirectory(prefix=_PREFIX) as folder:
        with disk_errors(Path(folder)):
            plain = _plain_file(Path(folder), (count, rows, columns), place)
            with rasterio.open(plain, "r+") as file:
                file.write(np.nan_to_num(values, nan=_ISIS_NULL, posinf=_ISIS_NULL, neginf=_ISIS_NULL))
            given = _converted(plain, program.input)
        made = describe(str(program.run(Path(folder), given, item)))
        _check_size(program, made, (rows, columns))
        return _read(made, Window(0, 0, columns, rows))


def over_item(program: Program, step: Step, key: str, item: Item, window: Window) -> NDArray[np.float32]:
    """Return a window of what a program makes of a step's whole image of an item, computed once in this process.

    Parameters
    ----------
    program
        What to run.
    step
        Its input.
    key
        Tells programs with their inputs apart.
    item
        Whose image.
    window
        Of the image's own pixels.

    Raises
    ------
    ProgramError, InputError, ImageError
        When the program fails, or the image cannot be computed.
    LimitError
        When the disk is full.
    """
    known = key, item.id, *(fingerprint(asset.href) for asset in item.images.values() if asset.reachable)
    with _lock:
        found = _results.get(known)
        if found is None:
            _sweep()
            folder = TemporaryDirectory(prefix=_PREFIX)
            try:
                found = folder, _made(program, step, item, Path(folder.name))
            except BaseException:
                folder.cleanup()
                raise
            _results[known] = found
            while len(_results) > _KEPT:
                _results.popitem(last=False)[1][0].cleanup()
        return _read(describe(str(found[1])), window)


def _sweep() -> None:
    """Remove what killed processes left in the temporary folder more than a week ago."""
    for folder in Path(gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == os.getuid() and time.time() - folder.stat().st_mtime > _STALE:
                shutil.rmtree(folder, ignore_errors=True)


def _made(program: Program, step: Step, item: Item, folder: Path) -> Path:
    """Compute a step over all of an item into a file, and run the program on it."""
    from cupola.lab.chains.chain import Chain
    from cupola.lab.chains.compute.whole import Whole, windows

    with Whole(Chain.of_step(step), item) as whole, disk_errors(folder):
        grid = whole.grid
        place = (grid.transform, grid.crs) if grid.crs else None
        file = None
        try:
            for window in windows(grid):
                values = whole.compute(whole.read(window))
                if file is None:
                    plain = _plain_file(folder, (len(values), grid.height, grid.width), place)
                    file = rasterio.open(plain, "r+")
                file.write(
                    np.nan_to_num(values, nan=_ISIS_NULL, posinf=_ISIS_NULL, neginf=_ISIS_NULL), window=window
                )
        finally:
            if file is not None:
                file.close()
        given = _converted(plain, program.input)
    made = program.run(folder, given, item.id)
    _check_size(program, describe(str(made)), (grid.height, grid.width))
    given.unlink(missing_ok=True)
    return made


def _plain_file(folder: Path, shape: tuple[int, int, int], place: tuple[Affine, Any] | None) -> Path:
    count, rows, columns = shape
    path = folder / "input.tif"
    # Any transform will do without a place; GDAL warns of files that have none.
    transform, crs = place or (from_origin(0, 0, 1, 1), None)
    with rasterio.open(
        path, "w", driver="GTiff", width=columns, height=rows, count=count, dtype="float32", crs=crs, transform=transform,
        nodata=_ISIS_NULL, BIGTIFF="IF_SAFER",
    ):  # fmt: skip
        return path


def _converted(plain: Path, ending: str) -> Path:
    """Return the file in the format that the program wants."""
    if ending == ".tif":
        return plain
    path = plain.with_suffix(ending)
    try:
        rasterio.shutil.copy(plain, path, driver=DRIVERS[ending])
    except RasterioError as error:
        raise InputError(f"The image cannot be written as {ending} for the program: {error}.") from error
    plain.unlink()
    return path


def _check_size(program: Program, made: Image, size: tuple[int, int]) -> None:
    if (made.height, made.width) != size:
        raise InputError(
            f"{program.name} made {made.width} x {made.height} pixels of {size[1]} x {size[0]}: a command in a chain keeps the "
            "image's rows and columns; run others with cupola.lab.isis.run and open what they write."
        )


def _read(made: Image, window: Window) -> NDArray[np.float32]:
    """Return physical values of all bands."""
    with open_image(made.path) as file:
        numbers = list(range(1, made.count + 1))
        raw: Sequence[Any] = file.read(numbers, window=window)
        mask = file.dataset_mask(window=window) if made.masked else None
    values = [
        physical(one, Band(f"b{number}", made.path, number), made, mask)
        for number, one in zip(numbers, raw, strict=True)
    ]
    return np.stack(values)
