"""The HiPS addresses of a real Jupyter server."""

from __future__ import annotations

import io

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

import cupola
from cupola.lab.chains import store
from support.sky import run_server

from .conftest import write_image

pytestmark = pytest.mark.system

LOOK = "cmap=viridis&vmin=0&vmax=500&scale=asinh&v=abc"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with run_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def chain(server, monkeypatch):
    """A chain that the server knows."""
    monkeypatch.setenv("CUPOLA_RUNTIME", str(server.folder / "runtime"))
    path = server.folder / "stars.fits"
    if not path.exists():
        write_image(path, "TAN")
    collection = cupola.open(str(path))
    made = collection[collection.bands[0]]
    store.save(made)
    return made


def properties(text):
    return {
        key.strip(): value.strip() for key, _, value in (line.partition("=") for line in text.splitlines())
    }


def test_everything_that_a_viewer_asks_for(server, chain):
    root = f"cupola/hips/{chain.hash}/{LOOK}"
    answer = server.get(f"{root}/properties")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    told = properties(answer.text)
    assert told["hips_frame"] == "equatorial"
    assert told["hips_tile_width"] == "512"
    assert told["hips_tile_format"] == "png fits"
    assert told["dataproduct_type"] == "image"
    assert float(told["hips_initial_ra"]) == pytest.approx(150.1, abs=0.01)
    assert float(told["hips_initial_dec"]) == pytest.approx(2.2, abs=0.01)
    assert 0.06 < float(told["hips_initial_fov"]) < 0.2
    order = int(told["hips_order"])

    moc = server.get(f"{root}/Moc.fits")
    assert moc.headers["content-type"] == "application/fits"
    with fits.open(io.BytesIO(moc.content)) as units:
        numbers = np.asarray(units[1].data["UNIQ"], dtype=np.int64)
    finest = int(units[1].header["MOCORDER"])
    pixel = int(numbers[-1] - 4 * 4**finest) >> 2 * (finest - order)

    place = f"Norder{order}/Dir{pixel // 10000 * 10000}/Npix{pixel}"
    picture = server.get(f"{root}/{place}.png")
    assert picture.headers["content-type"] == "image/png"
    # The image has one arcsecond per pixel, and its finest tiles show each of them.
    assert float(picture.headers["x-cupola-scale"]) == pytest.approx(1, rel=0.02)
    assert picture.headers["x-cupola-exact"] == "True"
    with Image.open(io.BytesIO(picture.content)) as image:
        assert image.size == (512, 512)
        assert np.asarray(image.convert("RGBA"))[..., 3].any()
    values = server.get(f"{root}/{place}.fits")
    with fits.open(io.BytesIO(values.content)) as units:
        assert units[0].header["BITPIX"] == -32
        assert np.isnan(units[0].data).any()
        assert np.nanmin(units[0].data) == pytest.approx(10, abs=0.1)
    assert server.get(f"{root}/Norder3/Allsky.png").status_code == 200


def test_validators(server, chain):
    address = f"cupola/hips/{chain.hash}/{LOOK}/Norder3/Dir0/Npix200.png"
    first = server.get(address)
    assert first.status_code == 200
    assert "immutable" in first.headers["cache-control"]
    again = server.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert not again.content
    other = server.get(
        address.replace("vmax=500", "vmax=400"), headers={"If-None-Match": first.headers["etag"]}
    )
    assert other.status_code == 200
    free = server.get(address.replace("&v=abc", ""))
    assert "immutable" not in free.headers["cache-control"]


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("cmap=nonsense/properties", 422, "no colormap"),
        ("scale=cubic/properties", 422, "no scale"),
        ("vmin=5&vmax=1/properties", 422, "not below"),
        ("-/Norder3/Dir0/Npix768.png", 422, "no tile Norder3"),
        ("-/Norder7/Dir0/Npix10001.png", 422, "named by its first tile"),
        ("-/Norder21/Dir0/Npix1.png", 422, "0 to 20"),
    ],
)
def test_wrong_addresses_are_told(server, chain, path, status, sentence):
    answer = server.get(f"cupola/hips/{chain.hash}/{path}")
    assert answer.status_code == status
    assert sentence in answer.json()["detail"]


def test_where_nothing_is(server, chain):
    root = f"cupola/hips/{chain.hash}/-"
    far = server.get(f"{root}/Norder3/Dir0/Npix5.png")
    assert far.status_code == 200
    with Image.open(io.BytesIO(far.content)) as image:
        assert not np.asarray(image.convert("RGBA"))[..., 3].any()
    assert server.get(f"{root}/Norder3/Dir0/Npix5.fits").status_code == 404
    assert server.get(f"{root}/Norder20/Dir0/Npix5.png").status_code == 404
    unknown = server.get(f"cupola/hips/{'0' * 64}/-/properties")
    assert unknown.status_code == 404
    assert "run the notebook cell" in unknown.json()["detail"]


def test_problems_are_told_in_a_sentence(server, tmp_path, monkeypatch):
    monkeypatch.setenv("CUPOLA_RUNTIME", str(server.folder / "runtime"))
    write_image(tmp_path / "gone.fits", "TAN")
    collection = cupola.open(str(tmp_path / "gone.fits"))
    broken = collection[collection.bands[0]].map(lambda values: values / missing)  # noqa: F821
    store.save(broken)
    answer = server.get(f"cupola/hips/{broken.hash}/-/stretch")
    assert answer.status_code == 500
    assert "missing" in answer.json()["detail"]
    plain = collection[collection.bands[0]]
    store.save(plain)
    (tmp_path / "gone.fits").unlink()
    answer = server.get(f"cupola/hips/{plain.hash}/v=1/properties")
    assert answer.status_code in {400, 404, 422, 500}
    assert "gone.fits" in answer.json()["detail"]


def test_nobody_without_the_token(server, chain):
    import httpx

    for path in (f"hips/{chain.hash}/-/properties", "vendor/aladin.js"):
        assert httpx.get(f"{server.url}cupola/{path}").status_code in {302, 403}
    module = server.get("cupola/vendor/aladin.js")
    assert module.headers["content-type"].startswith("text/javascript")
    assert len(module.content) > 1_000_000
    again = server.get("cupola/vendor/aladin.js", headers={"If-None-Match": module.headers["etag"]})
    assert again.status_code == 304


def test_the_word_of_a_hub_stands_in_the_path(server, chain):
    from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

    from cupola.lab.tiles.hips import HipsHandler

    handler = HipsHandler.__new__(HipsHandler)
    handler.request = HTTPServerRequest(
        start_line=RequestStartLine("GET", "/", "HTTP/1.1"), headers=HTTPHeaders({"Host": "here"})
    )
    handler.path_args = [chain.hash, "cmap=gray&_xsrf=2|ab=c|d"]
    assert handler.get_argument("_xsrf", None) == "2|ab=c|d"
    assert handler.get_argument("v", None) is None
    handler.path_args = [chain.hash, "-"]
    assert handler.get_argument("_xsrf", None) is None
    # The address with the word is answered as that without it.
    root = f"cupola/hips/{chain.hash}/{LOOK}"
    assert server.get(f"{root}&_xsrf=2%7Cab%3Dc%7Cd/Norder3/Dir0/Npix5.png").status_code == 200
