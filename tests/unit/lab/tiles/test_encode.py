from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cupola.lab.tiles.encode import empty_png, error_png, npy, png, webp
from cupola.lab.tiles.styles import Style, colormap


def ramp() -> np.ndarray:
    return np.linspace(-1, 1, 256 * 256, dtype=np.float32).reshape(1, 256, 256)


def pixels_of(body: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGBA"))


EVERYTHING = np.ones((256, 256), dtype=bool)


def test_one_band_gets_the_colours_of_the_map_from_low_to_high() -> None:
    drawn = pixels_of(png(ramp(), EVERYTHING, Style("viridis", (-1,), (1,))))
    table = colormap("viridis")
    assert drawn.shape == (256, 256, 4)
    assert drawn[0, 0].tolist() == table[0].tolist()
    assert drawn[-1, -1].tolist() == table[-1].tolist()
    assert np.abs(drawn[128, 0].astype(int) - table[127]).max() <= 4


def test_one_band_is_stored_as_one_byte_per_pixel() -> None:
    image = Image.open(io.BytesIO(png(ramp(), EVERYTHING, Style("RdYlGn", (-1,), (1,)))))
    assert image.mode == "P"


def test_values_beyond_the_limits_get_the_end_colours() -> None:
    drawn = pixels_of(png(ramp() * 100, EVERYTHING, Style("gray", (-1,), (1,))))
    assert drawn[0, 0].tolist() == [0, 0, 0, 255]
    assert drawn[-1, -1].tolist() == [255, 255, 255, 255]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("bands", [1, 3])
def test_what_is_not_finite_is_transparent(bad: float, bands: int) -> None:
    data = np.repeat(ramp(), bands, axis=0)
    data[-1, 10, 20] = bad
    drawn = pixels_of(png(data, EVERYTHING, Style("viridis", (-1,), (1,))))
    assert drawn[10, 20, 3] == 0
    assert drawn[10, 21, 3] == 255


def test_what_is_invalid_is_transparent_whatever_it_holds() -> None:
    valid = EVERYTHING.copy()
    valid[:, :100] = False
    drawn = pixels_of(png(ramp(), valid, Style("viridis", (-1,), (1,))))
    assert not drawn[:, :100, 3].any()
    assert (drawn[:, 100:, 3] == 255).all()


def test_nothing_valid_is_the_small_empty_tile() -> None:
    body = png(ramp(), ~EVERYTHING, Style("viridis", (-1,), (1,)))
    assert body == empty_png(256)
    assert len(body) < 400
    assert not pixels_of(body)[..., 3].any()


def test_three_bands_are_red_green_blue_with_limits_of_their_own() -> None:
    data = np.stack([np.full((64, 64), value, np.float32) for value in (10, 200, 3000)])
    body = png(data, np.ones((64, 64), dtype=bool), Style("viridis", (0, 0, 0), (10, 400, 3000)))
    assert Image.open(io.BytesIO(body)).mode == "RGB"
    drawn = pixels_of(body)[0, 0].tolist()
    assert drawn == [255, pytest.approx(127.5, abs=1), 255, 255]


def test_large_offsets_keep_their_steps() -> None:
    # The radius of the Moon in metres, in single precision.
    data = (np.float32(1_737_400) + np.arange(256, dtype=np.float32)).reshape(1, 1, 256)
    drawn = pixels_of(png(data, np.ones((1, 256), dtype=bool), Style("gray", (1_737_400,), (1_737_655,))))
    steps = drawn[0, :, 0].astype(int)
    assert (np.diff(steps) >= 0).all()
    assert steps[0] == 0
    assert steps[-1] == 255
    # The table itself repeats some greys.
    assert np.diff(steps).max() <= 2


def test_npy_has_nan_where_nothing_is_valid() -> None:
    valid = EVERYTHING.copy()
    valid[3, 4] = False
    array = np.load(io.BytesIO(npy(ramp(), valid)), allow_pickle=False)
    assert array.dtype == np.float32
    assert array.shape == (1, 256, 256)
    assert np.isnan(array[0, 3, 4])
    assert np.array_equal(array[0, 4:], ramp()[0, 4:])


def test_an_error_is_drawn_into_a_tile_of_the_asked_size() -> None:
    drawn = pixels_of(error_png("ZeroDivisionError: " + "a very long sentence " * 50, 128))
    assert drawn.shape == (128, 128, 4)
    assert (drawn[..., 0] < 140).any()


@pytest.mark.parametrize("scale", ["sqrt", "log", "asinh"])
def test_other_scales_show_what_is_faint(scale: str) -> None:
    values = np.linspace(0, 1, 256 * 256, dtype=np.float32).reshape(1, 256, 256)
    grey = pixels_of(png(values, EVERYTHING, Style("gray", (0,), (1,), scale)))[..., 0].astype(int)
    linear = pixels_of(png(values, EVERYTHING, Style("gray", (0,), (1,))))[..., 0].astype(int)
    assert grey[0, 0] == linear[0, 0] == 0
    assert grey[-1, -1] == linear[-1, -1] == 255
    assert (np.diff(grey.ravel()) >= 0).all()
    assert grey[64, 0] > linear[64, 0] + 40


def test_webp_shows_the_same_but_for_what_it_loses() -> None:
    rows, columns = np.mgrid[0:256, 0:256].astype(np.float32)
    data, valid = np.stack([rows, columns, 255 - rows]), rows < 200
    style = Style("gray", (0,), (255,))
    lossy, exact = pixels_of(webp(data, valid, style)), pixels_of(png(data, valid, style))
    assert Image.open(io.BytesIO(webp(data, valid, style))).format == "WEBP"
    assert np.array_equal(lossy[..., 3], exact[..., 3])
    assert np.abs(lossy[:190, :, :3].astype(int) - exact[:190, :, :3]).mean() < 4
    single = pixels_of(webp(data[:1], valid, style))
    assert np.array_equal(single[..., 3], exact[..., 3])
    assert pixels_of(webp(data, np.zeros_like(valid), style))[..., 3].max() == 0
