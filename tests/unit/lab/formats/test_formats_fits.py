from __future__ import annotations

import gzip
import warnings

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from cupola.exceptions import BandError, ImageError
from cupola.lab import bodies, collections
from cupola.lab.chains.compute.evaluate import on_grid, tile
from cupola.lab.chains.pixels.sampling import HipsGrid, Sampler
from cupola.lab.collections.images import Band, describe, open_image, physical


def header(kind, size=(64, 48), *, scale=0.01, centre=(30.0, 20.0), pair=("RA--", "DEC-"), **more):
    """Return a header that places an image on the sky; `scale` in degrees."""
    found = fits.Header()
    for number, (name, middle, place) in enumerate(zip(pair, centre, size, strict=True), 1):
        found[f"CTYPE{number}"] = f"{name}-{kind}"
        found[f"CRVAL{number}"] = middle
        found[f"CRPIX{number}"] = place / 2 + 0.5
        found[f"CDELT{number}"] = -scale if number == 1 else scale
        found[f"CUNIT{number}"] = "deg"
    found.update(more)
    return found


def write(path, values, head=None, **options):
    fits.PrimaryHDU(values, head).writeto(path, **options)
    return path


def values_of(path, index=1):
    image = describe(str(path))
    with open_image(str(path)) as dataset:
        return physical(dataset.read(index), Band("b", str(path), index), image)


@pytest.fixture
def ramp():
    return np.arange(64 * 48, dtype=np.float32).reshape(48, 64)


def test_scaled_integers_with_blanks(tmp_path):
    raw = np.array([[1, 2, 3], [4, -999, 6]], dtype=np.int16)
    # Card by card: astropy would scale the numbers while writing.
    path = tmp_path / "scaled.fits"
    text = b"".join(
        card.ljust(80).encode()
        for card in (
            "SIMPLE  =                    T", "BITPIX  =                   16", "NAXIS   =                    2",
            "NAXIS1  =                    3", "NAXIS2  =                    2", "BSCALE  =                  0.5",
            "BZERO   =                100.0", "BLANK   =                 -999", "END",
        )
    ).ljust(2880)  # fmt: skip
    path.write_bytes(text + raw.astype(">i2").tobytes().ljust(2880, b"\0"))
    assert np.array_equal(values_of(path), [[100.5, 101, 101.5], [102, np.nan, 103]], equal_nan=True)


@pytest.mark.parametrize("kind", ["float32", "int16", "uint16"])
def test_compressed_tiles(tmp_path, kind):
    random = np.random.default_rng(1)
    values = random.integers(0, 30000, (130, 150)).astype(kind)
    path = tmp_path / "packed.fits"
    method = "GZIP_1" if kind == "float32" else "RICE_1"
    packed = fits.CompImageHDU(
        values, header("TAN", (150, 130)), compression_type=method, tile_shape=(32, 32), quantize_level=0
    )
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(path)
    assert np.array_equal(values_of(path), values.astype(np.float32))
    image = describe(str(path))
    assert (image.blocks, image.body) == ((32, 32), bodies.SKY)
    collection = collections.open(path)
    found = tile(collection["b1"], "Sky2015car", *_tile_around(30.0, 20.0, 7))
    assert found.valid.any()
    assert np.isin(found.data[found.data == found.data], values).all()


def _tile_around(longitude, latitude, zoom):
    grid = bodies.tile_matrix_set("Sky2015car")
    cell = grid.matrix(zoom).cellSize * 256
    return int((longitude + 180) * 3600 // cell), int((90 - latitude) * 3600 // cell), zoom


def test_compressed_file_and_cube(tmp_path, ramp):
    path = tmp_path / "cube.fits.gz"
    cube = np.stack([ramp, ramp + 1, ramp * 2])
    with gzip.open(path, "wb") as file:
        fits.PrimaryHDU(cube).writeto(file)
    collection = collections.open(path)
    assert (collection.bands, describe(str(path)).count) == (["b1", "b2", "b3"], 3)
    assert np.array_equal(values_of(path, 3), cube[2])


def test_extensions_are_bands(tmp_path, ramp):
    path = tmp_path / "many.fits"
    extensions = [
        fits.PrimaryHDU(),
        fits.ImageHDU(ramp, name="SCI", ver=1),
        fits.ImageHDU(ramp + 1, name="SCI", ver=2),
        fits.ImageHDU(ramp * 0, name="DQ"),
        fits.ImageHDU(ramp + 5),
        fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1])]),
    ]
    fits.HDUList(extensions).writeto(path)
    collection = collections.open(path)
    item = collection.items[0]
    assert collection.bands == ["SCI,1", "SCI,2", "DQ", "4"]
    assert item.band("SCI")[0].path == f"{path}#SCI,1"
    assert np.array_equal(values_of(f"{path}#SCI,2"), ramp + 1)
    assert np.array_equal(values_of(f"{path}#4"), ramp + 5)
    masked = collection["SCI,2"].where(collection["DQ"] == 0)
    assert masked.hash
    with pytest.raises(BandError, match=r"no band 'SCY'.*SCI,1"):
        collection["SCY"]
    with pytest.raises(ImageError, match=r"no image 'ERR'; it has SCI,1, SCI,2, DQ, 4"):
        describe(f"{path}#ERR")


@pytest.mark.parametrize(
    ("kind", "frame", "centre"),
    [
        ("TAN", "icrs", (0.05, 10.0)),
        ("TAN", "icrs", (200.0, 89.9)),
        ("TAN", "fk5", (120.0, -60.0)),
        ("ZEA", "galactic", (359.9, 0.0)),
        ("AIT", "galactic", (0.0, 0.0)),
        ("CAR", "galactic", (10.0, 0.0)),
        ("SIN", "icrs", (10.68, 41.27)),
    ],
)
def test_places_are_astropys(tmp_path, ramp, kind, frame, centre):
    pair = ("GLON", "GLAT") if frame == "galactic" else ("RA--", "DEC-")
    more = (
        {"RADESYS": frame.upper(), **({"EQUINOX": 2000.0} if frame == "fk5" else {})}
        if frame != "galactic"
        else {}
    )
    head = header(kind, centre=centre, pair=pair, **more)
    image = describe(str(write(tmp_path / "placed.fits", ramp, head)))
    wcs = WCS(head)
    columns, rows = (
        part.ravel() for part in np.meshgrid(np.linspace(0.5, 63.5, 9), np.linspace(0.5, 47.5, 7))
    )
    expected = SkyCoord(wcs.pixel_to_world(columns - 0.5, rows - 0.5)).icrs
    longitudes, latitudes = image.placement.lonlat(columns, rows)
    found = SkyCoord(longitudes, latitudes, unit="deg")
    assert found.separation(expected).arcsec.max() < 1e-3
    back = image.placement.pixels(expected.ra.deg, expected.dec.deg)
    assert np.allclose(back, (columns, rows), atol=1e-4)


def test_whole_sky_in_galactic_coordinates_has_no_seam(tmp_path):
    """A plate carrée from 0 to 360 degrees around the pole of longitude 0, as surveys write it."""
    values = np.tile(np.arange(720, dtype=np.float32), (360, 1))
    head = header("CAR", (720, 360), scale=0.5, centre=(0.0, 0.0), pair=("GLON", "GLAT"))
    path = write(tmp_path / "allsky.fits", values, head)
    collection = collections.open(path)
    assert collection.bbox[1::2] == pytest.approx((-90, 90), abs=1)
    for x in (0, 1):
        assert tile(collection["b1"], "Sky2015car", x, 0, 0).valid.mean() > 0.99


def test_footprint_holds_the_pole_and_crosses_the_first_meridian(tmp_path, ramp):
    pole = describe(str(write(tmp_path / "pole.fits", ramp, header("TAN", centre=(77.0, 90.0)))))
    assert collections.open(pole.path).bbox[0::2] == (-180, 180)
    assert collections.open(pole.path).bbox[3] == 90
    first = collections.open(write(tmp_path / "first.fits", ramp, header("TAN", centre=(0.0, 0.0))))
    west, _, east, _ = first.bbox
    assert west == pytest.approx(-0.32, abs=0.01)
    assert east == pytest.approx(0.32, abs=0.01)


def test_distortion_and_lookup_tables_of_real_headers(data):
    """Each chip of the camera has its tables in further extensions of the file."""
    path = data / "fits" / "sample_svm_flc.fits"
    with warnings.catch_warnings(), fits.open(path) as hdus:
        warnings.simplefilter("ignore")
        for part in ("SCI,1", "SCI,2"):
            number = hdus.index_of((part[:3], int(part[-1])))
            wcs = WCS(hdus[number].header, hdus)
            assert wcs.has_distortion
            assert wcs.det2im1 is not None or wcs.cpdis1 is not None
            columns, rows = np.array([0.0, 3.0, 9.0]), np.array([0.0, 8.0, 9.0])
            expected = wcs.all_pix2world(columns, rows, 0)
            found = describe(f"{path}#{part}").placement
            assert np.allclose(found.lonlat(columns + 0.5, rows + 0.5), expected, atol=1e-9)
            assert np.allclose(found.pixels(*expected), (columns + 0.5, rows + 0.5), atol=5e-3)


def test_real_colour_image_of_m31(data):
    collection = collections.open(data / "fits" / "m31.fits")
    assert collection.bands == ["red", "green", "blue"]
    west, south, east, north = collection.bbox
    assert west < 10.6847 < east
    assert south < 41.2690 < north
    nucleus = on_grid(collection["red", "green", "blue"], HipsGrid(9, _pixel(9, 10.6847, 41.2690), 64))
    assert nucleus.data.shape == (3, 64, 64)
    assert nucleus.valid.any()


def _pixel(order, longitude, latitude):
    from astropy_healpix import HEALPix

    place = SkyCoord(longitude, latitude, unit="deg")
    return int(HEALPix(2**order, "nested", frame="icrs").skycoord_to_healpix(place))


@pytest.mark.parametrize("centre", [(0.0, 0.0), (45.0, 41.8), (200.0, 89.5), (300.0, -40.0)])
def test_a_star_is_where_healpix_has_it(tmp_path, centre):
    """In a tile of a HiPS the bits of the row are the even bits of the nested number, those of the column the odd ones."""
    values = np.zeros((64, 64), dtype=np.float32)
    values[32, 32] = 1
    path = write(tmp_path / "star.fits", values, header("TAN", (64, 64), centre=centre))
    placement = describe(str(path)).placement
    longitude, latitude = placement.lonlat(np.array([32.5]), np.array([32.5]))
    order, size = 6, 128
    number = _pixel(order + 7, longitude[0], latitude[0])
    grid = HipsGrid(order, number // size**2, size)
    found = Sampler(grid).read(collections.open(path).items[0].band("b1")[0])
    inner = number % size**2
    row = sum((inner >> 2 * bit & 1) << bit for bit in range(7))
    column = sum((inner >> 2 * bit + 1 & 1) << bit for bit in range(7))
    assert found[row, column] == 1
    lit = np.argwhere(found == 1)
    assert np.abs(lit.mean(axis=0) - (row, column)).max() < 1.5
    columns, rows = grid.pixels(longitude, latitude)
    assert (int(columns[0]), int(rows[0])) == (column, row)


def test_halo_of_a_tile_of_the_sky_goes_on_evenly():
    grid = HipsGrid(5, 1234, 64)
    inner = grid.lonlat(*np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5))
    padded = grid.padded(3)
    outer = padded.lonlat(*np.meshgrid(np.arange(70) + 0.5, np.arange(70) + 0.5))
    for one, other in zip(inner, outer, strict=True):
        assert np.allclose(other[3:-3, 3:-3], one, atol=1e-12)
        steps = np.diff(other, axis=1)
        assert np.abs(np.diff(steps, axis=1)).max() < 0.2 * np.abs(steps).max()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not FITS at all", "not a FITS file"),
        (b"", "not a FITS file"),
    ],
)
def test_other_files_are_refused(tmp_path, content, words):
    path = tmp_path / "wrong.fits"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"wrong\.fits .*{words}"):
        describe(str(path))


def test_file_without_images_and_damaged_file(tmp_path, ramp):
    path = tmp_path / "table.fits"
    fits.HDUList(
        [fits.PrimaryHDU(), fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1])])]
    ).writeto(path)
    with pytest.raises(ImageError, match="holds no image"):
        describe(str(path))
    whole = write(tmp_path / "whole.fits", np.tile(ramp, (10, 10)), header("TAN"))
    cut = tmp_path / "cut.fits"
    cut.write_bytes(whole.read_bytes()[:20_000])
    with pytest.raises(ImageError, match=r"cut\.fits .*damaged"):
        values_of(cut)
