"""Exact previews of images that are no single file: as a run writes them, pixel by pixel, where somebody looks."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from rasterio.windows import Window

from cupola.exceptions import LimitError
from cupola.lab.chains.compute import evaluation as room
from cupola.lab.chains.compute.composed import places_in
from cupola.lab.chains.compute.planning import chosen
from cupola.lab.chains.graph.scale import At
from cupola.lab.chains.pixels.grids import ImageGrid
from cupola.lab.chains.pixels.ground import centre_spacing
from cupola.lab.chains.pixels.lattice import lattice_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cupola.lab.chains.compute.evaluation import Evaluation
    from cupola.lab.chains.graph.source import Source
    from cupola.lab.chains.pixels.grids import AnyGrid, Grid

__all__ = ["exact_whole"]

_PIECE = 16_384
"""The pieces of a run matter for no pixel: the largest there are make the fewest."""


def exact_whole(evaluation: Evaluation, grid: AnyGrid) -> NDArray[np.float32] | None:
    """Compute a program that makes one image on the pixels that a run of it writes, and pick those at a grid's places.

    Parameters
    ----------
    evaluation
        What keeps book of scale and items.
    grid
        Where.

    Returns
    -------
    array
        float32 (bands, rows, columns); nothing where there is no pixel.

    Raises
    ------
    LimitError
        When that would be too many pixels for somebody who waits.
    """
    program = evaluation.program
    if isinstance(program.lines[program.last].step, At):
        # Its pixels are its own, whoever asks.
        return evaluation.values(program.last, grid)
    if isinstance(grid, ImageGrid) and grid.image.placement is None:
        return _in_image_space(evaluation, grid)
    whole = _pixels(evaluation)
    columns, rows = places_in(whole, grid)
    with np.errstate(invalid="ignore"):
        inside = (columns >= 0) & (columns < whole.width) & (rows >= 0) & (rows < whole.height)
    if not inside.any():
        return None
    across, down = (np.floor(np.where(inside, part, 0)).astype(np.int64) for part in (columns, rows))
    left, top = int(across[inside].min()), int(down[inside].min())
    width, height = int(across[inside].max()) - left + 1, int(down[inside].max()) - top + 1
    window = whole.window(left, top, width, height)
    values = _as_a_run(evaluation, window)
    if values is None:
        return None
    brought = values[:, np.clip(down - top, 0, height - 1), np.clip(across - left, 0, width - 1)]
    brought[:, ~inside] = np.nan
    return brought


def _in_image_space(evaluation: Evaluation, grid: ImageGrid) -> NDArray[np.float32] | None:
    """Compute a program on pixels of the image: images that only have columns and rows have one size."""
    columns, rows = grid.of_image(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    lattice = lattice_of(grid.image, columns[np.newaxis], rows[:, np.newaxis], (1.0, 1.0))
    if lattice is None:
        return None
    values = _as_a_run(evaluation, lattice.grid)
    return None if values is None else lattice.bring(values)


def _as_a_run(evaluation: Evaluation, grid: AnyGrid) -> NDArray[np.float32] | None:
    """Compute a program on pixels of a run's, and note that."""
    if evaluation.limited:
        _check_size(evaluation, grid)
    run = room.Evaluation(evaluation.program, evaluation.body, limited=evaluation.limited)
    values = run.of_a_run(grid)
    evaluation.used.update(run.used)
    evaluation.note(max(run.scale, centre_spacing(grid, evaluation.body)), exact=run.exact)
    return values


def _check_size(evaluation: Evaluation, grid: AnyGrid) -> None:
    """Refuse what would take too long: each image is read in full."""
    counts = [len(evaluation.items(source, grid)) for source in evaluation.program.sources]
    pixels = grid.width * grid.height * max(sum(counts), 1)
    if pixels > room.EXACT_PIXELS or max(counts, default=0) > room.REDUCED_ITEMS:
        raise LimitError(
            f"An exact preview would compute {pixels / 1e6:,.0f} million pixels of {sum(counts):,} images, and at most "
            f"{room.EXACT_PIXELS / 1e6:.0f} million are: zoom in, or run the chain."
        )


def _pixels(evaluation: Evaluation) -> Grid:
    """Return the pixels that a run of a program writes."""
    program = evaluation.program
    read = tuple((source, program.bands(source), len(source.collection)) for source in program.sources)
    return _chosen(read)


@lru_cache(maxsize=64)
def _chosen(read: tuple[tuple[Source, tuple[str, ...], int], ...]) -> Grid:
    """Return the grid of a run over so many items of each collection: files have to be opened to choose it."""
    grid = chosen([(source.collection, list(names)) for source, names, _ in read], piece=_PIECE)
    return grid.window(Window(0, 0, grid.width, grid.height))
