"""A viewport and a run give the same values, wherever the mathematics allows it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from morecantile import Tile
from rasterio.transform import from_origin
from rasterio.windows import Window
from scipy import ndimage

from cupola.exceptions import BodyError, InputError, LimitError
from cupola.lab import bodies, collections
from cupola.lab.chains.compute import evaluate, evaluation
from cupola.lab.chains.compute.planning import plan
from cupola.lab.chains.compute.whole import Whole
from cupola.lab.chains.pixels.grids import Grid

MERCATOR = "WebMercatorQuad"
X, Y, Z = 500, 300, 10
SIZE = 512
"""Pixels of an image: those of 2 x 2 tiles."""
BOX = bodies.tile_matrix_set(MERCATOR).xy_bounds(Tile(X, Y, Z))
PIXEL = (BOX.right - BOX.left) / 256
PART = (BOX.left + 256 * PIXEL, BOX.top - 128 * PIXEL, BOX.left + 320 * PIXEL, BOX.top - 64 * PIXEL)
"""Left, bottom, right and top of some pixels."""
QUICK = settings(max_examples=25, deadline=None)


def write(path, array, *, pixel=PIXEL, levels=()):
    array = array if array.ndim == 3 else array[np.newaxis]
    profile = {
        "driver": "GTiff", "dtype": array.dtype.name, "count": len(array), "crs": "EPSG:3857", "nodata": 0,
        "height": array.shape[1], "width": array.shape[2], "transform": from_origin(BOX.left, BOX.top, pixel, pixel),
        "tiled": True, "blockxsize": 256, "blockysize": 256,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(array)
        if levels:
            dataset.build_overviews(levels, rasterio.enums.Resampling.average)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four days over one place: a fine band, a coarse band, and classes; some of it missing."""
    place = tmp_path_factory.mktemp("series")
    random = np.random.default_rng(5)
    for day in range(1, 5):
        fine = random.integers(1, 1000, (SIZE, SIZE), dtype="uint16")
        fine[random.random(fine.shape) < 0.2] = 0
        coarse = random.integers(1, 1000, (SIZE // 2, SIZE // 2), dtype="uint16")
        classes = random.integers(1, 5, (SIZE // 4, SIZE // 4), dtype="uint8")
        write(place / f"fine{day}.tif", fine, levels=(2, 4))
        write(place / f"coarse{day}.tif", coarse, pixel=PIXEL * 2)
        write(place / f"classes{day}.tif", classes, pixel=PIXEL * 4)
        box = collections.open(place / f"fine{day}.tif").bbox
        names = {
            name: {"href": f"{name}{day}.tif", "type": "image/tiff"} for name in ("fine", "coarse", "classes")
        }
        document = {
            "type": "Feature", "stac_version": "1.1.0", "id": f"day{day}", "bbox": list(box), "geometry": None,
            "properties": {"datetime": f"2020-01-0{day}T00:00:00Z"}, "assets": names, "links": [],
        }  # fmt: skip
        (place / f"day{day}.json").write_text(json.dumps(document))
    return place


@pytest.fixture(scope="module")
def series(folder):
    return collections.open(folder)


@pytest.fixture(scope="module")
def scene(series):
    return series.only("day4")


def whole(chain):
    """Compute a chain over its newest item as a run does."""
    with Whole(chain, chain.collection.items[0]) as full:
        return full.compute(full.read(Window(0, 0, SIZE, SIZE)))


def stack(folder, name):
    """Return a band of all days, the oldest first, at the size of the fine one."""
    images = []
    for day in range(1, 5):
        with rasterio.open(folder / f"{name}{day}.tif") as dataset:
            array = dataset.read(1).astype("float32")
        array[array == 0] = np.nan
        images.append(np.kron(array, np.ones((SIZE // len(array),) * 2, "float32")))
    return np.stack(images)


def build(scene, operations):
    """Make a chain of pixel-by-pixel steps."""
    chain, other = scene["fine"], scene["coarse"]
    for operation, number in operations:
        match operation:
            case "+":
                chain = chain + other * number
            case "/":
                chain = chain / (other + number)
            case "m":
                chain = chain.mask(other > abs(number) * 50)
            case "w":
                chain = chain.where(scene["classes"].isin([1, 3]), number)
            case "f":
                chain = chain.map(lambda band: np.sqrt(np.abs(band)))
            case "s":
                chain = chain.stack(other)[0]
            case _:
                chain = np.minimum(chain, number * 100)
    return chain


OPERATIONS = st.lists(
    st.tuples(st.sampled_from("+/mwfsl"), st.floats(-9, 9, width=16)), min_size=1, max_size=6
)


@QUICK
@given(OPERATIONS, st.integers(0, 1), st.integers(0, 1))
def test_tile_at_native_scale_is_the_window_of_the_run(scene, operations, right, down):
    chain = build(scene, operations)
    found = evaluate.tile(chain, MERCATOR, X + right, Y + down, Z)
    expected = whole(chain)[:, down * 256 : down * 256 + 256, right * 256 : right * 256 + 256]
    # What is infinite has no colour: in a view it is missing.
    expected[~np.isfinite(expected)] = np.nan
    assert np.array_equal(found.data, expected, equal_nan=True)
    assert found.exact
    assert np.array_equal(found.valid, np.isfinite(expected).any(axis=0))


@QUICK
@given(st.integers(1, 4), st.integers(0, 1), st.integers(0, 1))
def test_neighbours_at_native_scale_are_those_of_the_run(scene, halo, right, down):
    """At the image's edge too: there a function sees the true edge, in a tile as in a run."""
    size = 2 * halo + 1
    chain = scene["fine"].map(lambda band: ndimage.uniform_filter(np.nan_to_num(band), size), halo=halo)
    found = evaluate.tile(chain, MERCATOR, X + right, Y + down, Z)
    expected = whole(chain)[:, down * 256 : down * 256 + 256, right * 256 : right * 256 + 256]
    # The filter adds up along whole rows: where it begins shows in the last digit.
    assert np.allclose(found.data, expected, rtol=1e-5)
    assert found.exact


VIEWS = st.tuples(st.floats(-0.3, 0.9), st.floats(-0.3, 0.9), st.sampled_from([0.013, 0.21, 0.77, 1.9, 6.1]))
"""Where a viewport begins, in widths of the image, and how wide it is."""


def box_of(view):
    """Return a viewport of 64 x 64 pixels none of which has its centre between two pixels of the image."""
    left, top, wide = (round(part, 3) + 0.000137 for part in view)
    side = SIZE * PIXEL
    return (
        BOX.left + left * side,
        BOX.top - (top + wide) * side,
        BOX.left + (left + wide) * side,
        BOX.top - top * side,
    )


def at_places(values, box):
    """Return the pixels of a run's result at the places of a viewport of 64 x 64 pixels."""
    steps = (np.arange(64) + 0.5) / 64
    columns = (box[0] + (box[2] - box[0]) * steps - BOX.left) / PIXEL
    rows = (BOX.top - box[3] + (box[3] - box[1]) * steps) / PIXEL
    inside = ((rows >= 0) & (rows < SIZE))[:, None] & (columns >= 0) & (columns < SIZE)
    across, down = (np.clip(np.floor(part), 0, SIZE - 1).astype(int) for part in (columns, rows))
    picked = values[:, down][:, :, across]
    return np.where(inside, picked, np.nan)


@QUICK
@given(
    st.sampled_from([1, 2, 3, 4.7321, 7.3137, 16]),
    st.sampled_from(["focal", "average", "ratio", "twice"]),
    st.tuples(st.integers(-99, 400), st.integers(-99, 400), st.sampled_from([1, 3, 7, 15])),
)
def test_a_scale_of_its_own_gives_the_run_s_values_in_any_view(scene, pixels, kind, view):
    metres = pixels * evaluation.image_spacing(image_of(scene), scene.body)[0]
    chain = scene["fine"]
    if kind == "ratio":
        chain = chain / scene["coarse"]
    if kind in {"focal", "twice"}:
        chain = chain.map(lambda band: ndimage.maximum_filter(np.nan_to_num(band), 3), halo=1)
    chain = chain.at(metres)
    if kind == "twice":
        chain = (chain * 2).at(metres * 2)
    # The centres of the view's pixels are those of the image's: a run has each value at the centre of a pixel.
    left, top = BOX.left + view[0] * PIXEL, BOX.top - view[1] * PIXEL
    side = 64 * view[2] * PIXEL
    box = (left, top - side, left + side, top)
    found = evaluate.viewport(chain, MERCATOR, box, 64, 64)
    assert np.array_equal(found.data, at_places(whole(chain), box), equal_nan=True)
    assert found.exact
    if found.valid.any():
        assert found.scale == pytest.approx(metres * (2 if kind == "twice" else 1), rel=0.02)


def image_of(scene):
    from cupola.lab.collections.images import describe

    return describe(scene.items[0].band("fine")[0].path)


def test_a_scale_averages_quantities_and_picks_classes(scene, folder):
    spacing = evaluation.image_spacing(image_of(scene), scene.body)[0]
    coarse = whole(scene["coarse"].at(8 * spacing))[0]
    expected = stack(folder, "coarse")[-1].reshape(64, 8, 64, 8).mean(axis=(1, 3))
    assert np.allclose(coarse[::4, ::4], expected, rtol=1e-6)
    assert np.array_equal(coarse, np.kron(coarse[::4, ::4], np.ones((4, 4))))
    classes = whole(scene["classes"].at(8 * spacing))[0]
    assert np.isin(classes, [1, 2, 3, 4]).all()


@QUICK
@given(OPERATIONS, VIEWS)
def test_exact_previews_are_the_run_s_values(scene, operations, view):
    chain = build(scene, operations).map(lambda band: ndimage.maximum_filter(np.nan_to_num(band), 3), halo=1)
    box = box_of(view)
    found = evaluate.viewport(chain, MERCATOR, box, 64, 64, exact=True)
    assert found.exact
    assert np.array_equal(found.data, at_places(whole(chain), box), equal_nan=True)


@pytest.mark.parametrize("method", ["bilinear", "cubic", "average", "mode", "nearest"])
def test_resampled_bands_are_the_same_in_a_tile_and_in_a_run(scene, method):
    chain = scene["fine"] + scene["coarse"].resample(method)
    run, found = whole(chain)[:, 256:, :256], evaluate.tile(chain, MERCATOR, X, Y + 1, Z).data
    assert np.allclose(run, found, atol=0.01, equal_nan=True)
    plain = whole(scene["fine"] + scene["coarse"])[:, 256:, :256]
    assert np.array_equal(run, plain, equal_nan=True) == (method not in {"bilinear", "cubic"})


def test_a_coarse_preview_says_so(scene):
    spacing = evaluation.image_spacing(image_of(scene), scene.body)[0]
    plain = evaluate.tile(scene["fine"], MERCATOR, X // 4, Y // 4, Z - 2)
    assert not plain.exact
    assert plain.scale == pytest.approx(4 * spacing, rel=0.05)
    near = evaluate.tile(scene["fine"], MERCATOR, X * 8, Y * 8, Z + 3)
    assert near.exact
    assert near.scale == pytest.approx(spacing, rel=0.02)


def test_neighbours_on_the_grid_of_a_view_are_no_exact_preview(series):
    """After a reduction there are no pixels of an image's own: a run has other neighbours."""
    smooth = series["fine"].mean().map(lambda band: ndimage.maximum_filter(band, 3), halo=1)
    assert not evaluate.tile(smooth, MERCATOR, X, Y, Z).exact
    assert evaluate.tile(smooth.at(500), MERCATOR, X, Y, Z).exact
    coarse = series["coarse"].map(lambda band: ndimage.maximum_filter(band, 3), halo=1)
    assert evaluate.tile(coarse, MERCATOR, X, Y, Z).exact
    # Without a pyramid and far out, more of the image's pixels lie here than a view computes.
    assert not evaluate.tile(coarse, MERCATOR, X // 16, Y // 16, Z - 4, 64).exact


def smoothed(band):
    return ndimage.maximum_filter(np.nan_to_num(band), 5)


@pytest.mark.parametrize("how", ["mean", "median", "mosaic"])
@pytest.mark.parametrize("bands", [["fine"], ["fine", "coarse"]])
def test_exact_previews_after_a_reduction_are_the_run_s_values(series, how, bands):
    """Also for neighbours, whose pixels are those of the grid that a run writes."""
    reduced = getattr(series[tuple(bands)], how)()[0]
    chain = reduced.map(smoothed, halo=2) * 2
    grid = plan(chain)
    run = evaluate.on_grid(chain, grid.window(Window(0, 0, grid.width, grid.height)), max_items=None)
    box = (PART[0] - 10 * PIXEL, PART[1] - 150 * PIXEL, PART[2] + 120 * PIXEL, PART[3])
    found = evaluate.viewport(chain, MERCATOR, box, 64, 64, exact=True)
    assert found.exact
    spacing = evaluation.image_spacing(image_of(series), series.body)[0]
    assert found.scale == pytest.approx(spacing * len(bands), rel=0.02)
    columns, rows = (np.floor(part).astype(int) for part in places(grid, box))
    assert np.array_equal(found.data, run.data[:, rows[:, np.newaxis], columns], equal_nan=True)
    assert found.items[0] == "day4"
    assert set(found.items) <= set(run.items)
    coarse = evaluate.viewport(chain, MERCATOR, box, 64, 64)
    assert not coarse.exact
    assert not np.array_equal(found.data, coarse.data, equal_nan=True)


def places(grid, box):
    """Return columns and rows of the middles of 64 x 64 pixels of a box in a run's grid."""
    left, bottom, right, top = box
    steps = (np.arange(64) + 0.5) / 64
    x, y = left + (right - left) * steps, top - (top - bottom) * steps
    return (x - grid.left) / grid.step_x, (grid.top - y) / grid.step_y


def test_a_scale_of_its_own_is_the_same_in_an_exact_preview(series):
    """`at` says the pixels, whoever asks: the finest there are would be others."""
    for chain in (series["fine"].mean().at(700), series["fine"].map(smoothed, halo=2).median().at(700)):
        plain, exact = (evaluate.tile(chain, MERCATOR, X, Y, Z, exact=wanted) for wanted in (False, True))
        assert np.array_equal(plain.data, exact.data, equal_nan=True)
        assert (exact.exact, exact.scale) == (True, pytest.approx(700))


def test_an_exact_preview_of_many_images_has_a_limit(series, monkeypatch):
    chain = series["fine"].mean().map(smoothed, halo=2)
    monkeypatch.setattr(evaluation, "EXACT_PIXELS", 4 * 256 * 256)
    assert evaluate.tile(chain, MERCATOR, X, Y, Z, exact=True).exact
    with pytest.raises(LimitError, match=r"of 4 images, .*zoom in, or run the chain"):
        evaluate.tile(chain, MERCATOR, X // 2, Y // 2, Z - 1, exact=True)
    monkeypatch.setattr(evaluation, "REDUCED_ITEMS", 3)
    with pytest.raises(LimitError, match="of 4 images"):
        evaluate.tile(series["fine"].mosaic(), MERCATOR, X * 4, Y * 4, Z + 2, exact=True)


def test_exact_previews_have_a_limit(scene, monkeypatch):
    monkeypatch.setattr(evaluation, "EXACT_PIXELS", 1000)
    with pytest.raises(LimitError, match="zoom in, or run the chain"):
        evaluate.tile(scene["fine"], MERCATOR, X, Y, Z, exact=True)
    assert evaluate.tile(scene["fine"], MERCATOR, X * 16, Y * 16, Z + 4, exact=True).exact


def test_a_scale_that_is_too_fine_for_a_view_is_made_coarser_and_told(scene, monkeypatch):
    spacing = evaluation.image_spacing(image_of(scene), scene.body)[0]
    chain = scene["fine"].map(lambda band: band, halo=1).at(spacing)
    monkeypatch.setattr(evaluation, "PINNED_PIXELS", 128 * 128)
    monkeypatch.setattr(evaluation, "_LEAST_PINNED", 1)
    found = evaluate.tile(chain, MERCATOR, X // 2, Y // 2, Z - 1)
    assert (found.exact, found.scale) == (False, pytest.approx(4 * spacing))
    grid = Grid(evaluate._plane(MERCATOR), BOX.left, BOX.top, PIXEL, PIXEL, 256, 256)
    with pytest.raises(LimitError, match="too many pixels for one window"):
        evaluate.on_grid(chain, grid, max_items=None)


REDUCTIONS = {
    "mean": np.nanmean,
    "median": np.nanmedian,
    "min": np.nanmin,
    "max": np.nanmax,
    "sum": np.nansum,
    "std": np.nanstd,
    "count": lambda values, axis: np.isfinite(values).sum(axis=axis),
}


@pytest.mark.filterwarnings("ignore:.*(Mean of empty|All-NaN|Degrees of freedom):RuntimeWarning")
@pytest.mark.parametrize("how", [*REDUCTIONS, "first", "last", "mosaic", 0, 10, 66.6, 100])
def test_reductions_are_those_of_numpy(series, folder, how):
    chain = series["fine", "coarse"].mask(series["classes"] < 4)
    values = np.stack([stack(folder, "fine"), stack(folder, "coarse")], axis=1)
    values[np.broadcast_to(~(stack(folder, "classes") < 4)[:, None], values.shape)] = np.nan
    reduced = chain.percentile(how) if isinstance(how, (int, float)) else getattr(chain, how)()
    found = evaluate.viewport(reduced, MERCATOR, PART, 64, 64)
    values = values[:, :, 64:128, 256:320]
    nothing = ~np.isfinite(values).any(axis=0)
    if how in REDUCTIONS:
        expected = REDUCTIONS[how](values.astype("float64"), axis=0).astype("float32")
    elif how == "mosaic":
        expected = values[0]
        for image in values[1:]:
            expected = np.where(np.isfinite(image).any(axis=0), image, expected)
    elif isinstance(how, str):
        order = values[::-1] if how == "last" else values
        expected = np.take_along_axis(order, np.isfinite(order).argmax(axis=0)[np.newaxis], axis=0)[0]
    else:
        expected = np.nanpercentile(values, how, axis=0)
    assert np.allclose(found.data, np.where(nothing, np.nan, expected), rtol=1e-5, atol=1e-3, equal_nan=True)
    assert found.exact
    assert found.items[0] == "day4"


def test_reductions_in_strips_are_the_same(series, monkeypatch):
    chain = (series["fine"] * 2).percentile(30)
    once = evaluate.tile(chain, MERCATOR, X, Y, Z).data
    monkeypatch.setattr(evaluation, "_STACK_BYTES", 100_000)
    assert np.array_equal(evaluate.tile(chain, MERCATOR, X, Y, Z).data, once, equal_nan=True)


def test_too_many_images_for_a_view(series, monkeypatch):
    monkeypatch.setattr(evaluation, "REDUCED_ITEMS", 2)
    with pytest.raises(LimitError, match=r"The mean is of 4 images here.*filter\(datetime"):
        evaluate.tile(series["fine"].mean(), MERCATOR, X, Y, Z)
    mosaic = evaluate.tile(series["fine"].mosaic(), MERCATOR, X, Y, Z)
    assert (mosaic.items, mosaic.exact) == (["day4", "day3"], False)
    grid = Grid(evaluate._plane(MERCATOR), BOX.left, BOX.top, PIXEL, PIXEL, 64, 64)
    assert len(evaluate.on_grid(series["fine"].mean(), grid, max_items=None).items) == 4


def test_differences_of_periods_and_masks_of_other_collections(series, folder):
    early, late = (series.filter(datetime=span) for span in ("2020-01-01/2020-01-02", "2020-01-03/.."))
    chain = late["fine"].max() - early["fine"].max()
    found = evaluate.tile(chain, MERCATOR, X, Y, Z)
    values = stack(folder, "fine")[:, :256, :256]
    expected = np.fmax(values[2], values[3]) - np.fmax(values[0], values[1])
    assert np.array_equal(found.data[0], expected, equal_nan=True)
    assert set(found.items) == {"day1", "day2", "day3", "day4"}
    masked = late["fine"].mask(early["coarse"].mosaic() > 500)
    with Whole(masked, late.item("day3")) as full:
        run = full.compute(full.read(Window(0, 0, SIZE, SIZE)))[0]
    expected = np.where(stack(folder, "coarse")[1] > 500, stack(folder, "fine")[2], np.nan)
    assert np.array_equal(run, expected, equal_nan=True)
    shown = evaluate.tile(masked, MERCATOR, X, Y, Z).data[0]
    newest = np.where(np.isfinite(values[3]), values[3], values[2])
    allowed = stack(folder, "coarse")[1][:256, :256] > 500
    assert np.array_equal(shown, np.where(allowed, newest, np.nan), equal_nan=True)


@pytest.mark.parametrize("metres", [300, 1234.5])
def test_a_scale_after_a_reduction_is_the_same_for_all(series, metres):
    chain = (
        series["fine"]
        .mean()
        .map(lambda band: ndimage.maximum_filter(np.nan_to_num(band), 3), halo=1)
        .at(metres)
    )
    fine = evaluate.tile(chain, MERCATOR, X, Y, Z)
    assert (fine.exact, fine.scale) == (True, pytest.approx(metres))
    coarse = evaluate.tile(chain, MERCATOR, X // 2, Y // 2, Z - 1)
    # A pixel of the coarse tile has its centre where four pixels of the fine one meet.
    around = [fine.data[0, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    quarter = coarse.data[0, (Y % 2) * 128 : (Y % 2) * 128 + 128, (X % 2) * 128 : (X % 2) * 128 + 128]
    assert np.isin(True, [quarter == part for part in around])
    assert np.mean(np.logical_or.reduce([quarter == part for part in around])) == 1
    grid = Grid(evaluate._plane(MERCATOR), BOX.left, BOX.top, PIXEL, PIXEL, 256, 256)
    assert np.array_equal(evaluate.on_grid(chain, grid, max_items=None).data, fine.data)


@pytest.mark.parametrize("kind", ["plain", "focal", "mean", "at"])
def test_a_viewport_is_its_tiles(series, kind):
    chain = {
        "plain": series["fine"] + series["coarse"],
        "focal": series["fine"].map(lambda band: ndimage.maximum_filter(np.nan_to_num(band), 3), halo=1),
        "mean": series["fine"].mean(),
        "at": series["fine"].at(2000),
    }[kind]
    box = (BOX.left, BOX.top - 2 * (BOX.top - BOX.bottom), BOX.left + 2 * (BOX.right - BOX.left), BOX.top)
    view = evaluate.viewport(chain, MERCATOR, box, SIZE, SIZE)
    tiles = [[evaluate.tile(chain, MERCATOR, X + i, Y + j, Z).data for i in (0, 1)] for j in (0, 1)]
    together = np.concatenate([np.concatenate(row, axis=2) for row in tiles], axis=1)
    assert np.array_equal(view.data, together, equal_nan=True)


@pytest.mark.parametrize(
    ("box", "size", "words"),
    [
        ((0, 0, 0, 1), (8, 8), "left, bottom, right, top"),
        ((0, 1, 1, float("nan")), (8, 8), "left, bottom, right, top"),
        ((0, 0, 1, 1), (0, 8), "0 x 8"),
        ((0, 0, 1, 1), (8, 9999), "9999"),
    ],
)
def test_wrong_viewports(scene, box, size, words):
    with pytest.raises(InputError, match=words):
        evaluate.viewport(scene["fine"], MERCATOR, box, *size)


def test_other_bodies_are_refused_in_reductions_too(scene):
    for chain in (scene["fine"].mean(), scene["fine"].mean().at(500)):
        with pytest.raises(BodyError, match=r"shows Earth.*map of Mars"):
            evaluate.tile(chain, "Mars2015eqc", 0, 0, 0)


def test_images_without_a_place_are_shown_in_their_own_space(tmp_path, write_image):
    array = np.arange(300 * 400, dtype="float32").reshape(300, 400)
    image = collections.open(write_image(tmp_path / "raw.tif", array, crs=None))["b1"]
    native = evaluate.tile(image, "ImageSpace", 1, 1, 12)
    assert np.array_equal(native.data[0, :44, :144], array[256:, 256:])
    assert not native.valid[44:].any()
    assert (native.exact, native.scale) == (True, 1.0)
    half = evaluate.tile(image.map(lambda band: band + 1, halo=1), "ImageSpace", 0, 0, 11)
    assert np.array_equal(half.data[0, :150, :200], array[1::2, 1::2] + 1)
    blurred = image.map(lambda band: ndimage.maximum_filter(band, 3), halo=1).at(4)
    tile = evaluate.tile(blurred, "ImageSpace", 0, 0, 12).data[0, :256, :256]
    assert np.array_equal(tile, whole_of(blurred, 300, 400)[0, :256, :256])
    with pytest.raises(InputError, match="no tile 19/0/0"):
        evaluate.tile(image, "ImageSpace", 0, 0, 19)


def whole_of(chain, rows, columns):
    with Whole(chain, chain.collection.items[0]) as full:
        return full.compute(full.read(Window(0, 0, columns, rows)))
