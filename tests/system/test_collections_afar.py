"""Arrays in place, keys for buckets, and why a store refuses: on a real object store and a real web server."""

from __future__ import annotations

import gc
import json
import logging
import shutil

import h5py
import numpy as np
import pytest
import rasterio
from astropy.io import fits
from rasterio.transform import from_origin
from rasterio.windows import Window

from cupola.exceptions import CupolaError, ImageError, InputError, NotFoundError, UnavailableError
from cupola.lab import collections
from cupola.lab.chains.compute import evaluate
from cupola.lab.chains.runs import fullres
from cupola.lab.collections import keys
from cupola.lab.collections.formats import ranges
from cupola.lab.collections.images import describe, open_image, parts
from support.afar import alone
from support.object_store import ObjectStore
from support.ports import free_port
from support.web import Partial, WebFiles, served

ROWS, COLUMNS, SIDE = 900, 600, 1500
WINDOW = Window(100, 200, 200, 150)


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    alone(tmp_path, monkeypatch)


def swath(path):
    """A swath of eight measurements in chunks, which do not compress."""
    random = np.random.default_rng(6)
    with h5py.File(path, "w") as file:
        file.attrs["Conventions"] = "CF-1.7"
        group = file.create_group("PRODUCT")
        axes = [
            group.create_dataset(name, data=np.arange(side))
            for name, side in (("line", ROWS), ("pixel", COLUMNS))
        ]
        for axis, name in zip(axes, ("line", "pixel"), strict=True):
            axis.make_scale(name)

        def add(name, values, units):
            made = group.create_dataset(name, data=values.astype("f4"), chunks=(90, 100), compression="gzip")
            made.attrs["units"] = units
            for number, axis in enumerate(axes):
                made.dims[number].attach_scale(axis)

        across, down = np.meshgrid(np.linspace(0, 9, COLUMNS), np.linspace(0, 9, ROWS))
        add("latitude", 40 + down + across / 10, "degrees_north")
        add("longitude", 5 + across + down / 10, "degrees_east")
        for number in range(8):
            add(f"gas_{number}", random.random((ROWS, COLUMNS)), "mol m-2")


def sky(path, packed):
    """Two extensions on the sky."""
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg"})
    header.update(CRVAL1=10.0, CRVAL2=20.0, CRPIX1=750.0, CRPIX2=750.0, CDELT1=-1e-4, CDELT2=1e-4)
    numbers = np.random.default_rng(7).integers(0, 30_000, (SIDE, SIDE)).astype("i2")
    kind = fits.CompImageHDU if packed else fits.ImageHDU
    more = {"tile_shape": (100, 100)} if packed else {}
    hdus = [kind(numbers * factor, header, name=name, **more) for name, factor in (("SCI", 1), ("ERR", -1))]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    folder = tmp_path_factory.mktemp("afar") / "store" / "bucket"
    folder.mkdir(parents=True)
    swath(folder / "swath.nc")
    sky(folder / "plain.fits", packed=False)
    sky(folder / "packed.fits", packed=True)
    small = fits.PrimaryHDU(np.arange(1200, dtype="f4").reshape(30, 40))
    small.writeto(folder / "small.fits.gz")
    profile = {
        "driver": "GTiff",
        "width": 64,
        "height": 64,
        "count": 1,
        "dtype": "uint8",
        "crs": "EPSG:32632",
    }
    with rasterio.open(folder / "one.tif", "w", transform=from_origin(5e5, 5e6, 10, 10), **profile) as file:
        file.write(np.full((1, 64, 64), 7, "uint8"))
    paid = folder.parent / "paid"
    paid.mkdir()
    for name in ("one.tif", "plain.fits"):
        shutil.copy(folder / name, paid / name)
    (folder / "classic.nc").write_bytes(b"CDF\x01" + b"\0" * 200)
    (folder / "text.h5").write_bytes(b"no HDF5 at all")
    return folder


@pytest.fixture(scope="module")
def open_store(bucket):
    """A store that everybody may read."""
    place = ObjectStore(bucket.parent)
    front = Partial(place.endpoint)
    place.start()
    try:
        with served(front) as address:
            front.address = address
            yield front
    finally:
        place.stop()


@pytest.fixture
def store(open_store, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", open_store.address)
    yield open_store
    open_store.refuse = lambda _headers: None


@pytest.fixture(params=["web", "store"])
def afar(request, bucket):
    """The address of the folder, and what counts the bytes of a file."""
    if request.param == "store":
        front = request.getfixturevalue("store")
        front.sent.clear()
        yield "s3://bucket", lambda name: front.sent.get(f"bucket/{name}", 0)
        return
    files = WebFiles(bucket)
    with served(files) as address:
        yield address, lambda name: files.sent.get(name, 0)


@pytest.mark.parametrize(
    ("name", "part", "head"),
    [("swath.nc", "PRODUCT/gas_3", 0.15), ("plain.fits", "ERR", 0.03), ("packed.fits", "ERR", 0.03)],
)
def test_arrays_are_read_in_place(afar, bucket, name, part, head):
    base, sent = afar
    size = (bucket / name).stat().st_size
    address, here = f"{base}/{name}#{part}", f"{bucket / name}#{part}"
    assert parts(f"{base}/{name}") == parts(str(bucket / name))
    image, near = describe(address), describe(here)
    assert (image.shape if hasattr(image, "shape") else (image.height, image.width)) == (
        near.height,
        near.width,
    )
    # Its headers were fetched, and few pixels with them.
    assert 0 < sent(name) < head * size
    before = sent(name)
    with open_image(address) as there, open_image(here) as file:
        assert np.array_equal(there.read(1, window=WINDOW), file.read(1, window=WINDOW))
        assert 0 < sent(name) - before < 0.15 * size
        before = sent(name)
        # What was read is not asked for again.
        there.read(1, window=WINDOW)
        assert sent(name) == before
        assert np.array_equal(there.read(1, out_shape=(50, 40)), file.read(1, out_shape=(50, 40)))
    assert sent(name) < size


def test_packed_and_damaged_files(afar):
    base, _ = afar
    with open_image(f"{base}/small.fits.gz") as there:
        assert there.read(1).sum() == np.arange(1200).sum()
    for name in ("text.h5", "classic.nc"):
        with pytest.raises(ImageError, match=name) as caught:
            open_image(f"{base}/{name}")
        assert "\n" not in str(caught.value)
    for name in ("none.fits", "none.nc"):
        with pytest.raises(ImageError, match="there is no such file"):
            open_image(f"{base}/{name}")
    with pytest.raises(ImageError, match="copy the store to a volume"):
        open_image(f"{base}/none.zarr")


def test_chains_of_swaths_afar(store, bucket, tmp_path):
    opened = collections.open("s3://bucket/swath.nc")
    near = collections.open(bucket / "swath.nc")
    assert opened.bands == near.bands
    chain, same = opened["gas_3"] * 2, near["gas_3"] * 2
    from morecantile import tms

    found = tms.get("WebMercatorQuad").tile(9.4, 44.5, 9)
    store.sent.clear()
    tile = evaluate.tile(chain, "WebMercatorQuad", found.x, found.y, 9)
    size = (bucket / "swath.nc").stat().st_size
    # One of eight measurements, and the two arrays of places.
    assert store.sent["bucket/swath.nc"] < size / 2
    assert tile.valid.any()
    wanted = evaluate.tile(same, "WebMercatorQuad", found.x, found.y, 9)
    assert np.array_equal(tile.data, wanted.data, equal_nan=True)
    product = fullres.write_product(chain, opened.items[0], tmp_path / "products")
    with rasterio.open(product) as made:
        assert made.read(1, masked=True).count() > 0
    document = json.loads(product.with_suffix(".json").read_text())
    assert "s3://bucket/swath.nc" in json.dumps(document["properties"]["cupola:inputs"])


@pytest.mark.usefixtures("store")
def test_listed_arrays_are_items():
    listed = collections.open("s3://bucket/")
    assert {"swath", "plain", "packed", "one"} <= {item.id for item in listed}
    box = listed.item("plain").bbox
    assert box[0] < 10 < box[2]
    assert box[1] < 20 < box[3]


def test_store_that_goes_away(bucket):
    files = WebFiles(bucket)
    with served(files) as address:
        there = open_image(f"{address}/swath.nc#PRODUCT/gas_1")
        plain = open_image(f"{address}/plain.fits")
    for image in (there, plain):
        with pytest.raises(ImageError, match="does not answer"):
            image.read(1, window=Window(400, 400, 90, 90))
        image.close()


def arrays():
    return [one for one in gc.get_objects() if isinstance(one, h5py.File | h5py.Dataset)]


def test_failed_reads_leave_no_garbage(bucket):
    """Only one thread at a time may do anything with HDF5: where garbage of it is found, any thread would wait for one that reads."""
    gc.collect()
    gc.disable()
    before = arrays()
    try:
        with served(WebFiles(bucket)) as address:
            there = open_image(f"{address}/swath.nc#PRODUCT/gas_2")
        with pytest.raises(ImageError, match="does not answer"):
            there.read(1, window=Window(400, 400, 90, 90))
        there.close()
        del there
        assert len(arrays()) == len(before)
    finally:
        gc.enable()


def test_file_that_changes_while_it_is_read(bucket, tmp_path):
    (tmp_path / "web").mkdir()
    copy = tmp_path / "web" / "plain.fits"
    copy.write_bytes((bucket / "plain.fits").read_bytes())
    with served(WebFiles(tmp_path / "web")) as address:
        image = open_image(f"{address}/plain.fits")
        image.read(1, window=Window(0, 0, 50, 5))
        copy.write_bytes(copy.read_bytes() + b"\0" * 2880)
        with pytest.raises(ImageError, match="changed on its server"):
            image.read(1, window=Window(0, 900, 50, 5))
        ranges.forget()
        assert open_image(f"{address}/plain.fits").read(1, window=Window(0, 900, 50, 5)).any()


class WholeOnly:
    """A server that knows no ranges."""

    def __init__(self, size):
        self.size = size

    async def __call__(self, _scope, _receive, send):
        headers = [(b"content-length", str(self.size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        text = b"SIMPLE  =                    T" + b" " * 70
        await send({"type": "http.response.body", "body": text, "more_body": True})


def test_server_that_sends_whole_files_only():
    with served(WholeOnly(10**12)) as address, pytest.raises(ImageError, match="sends whole files only"):
        open_image(f"{address}/large.fits")


def write_profiles(tmp_path, text, secrets=""):
    (tmp_path / ".aws").mkdir(exist_ok=True)
    (tmp_path / ".aws" / "config").write_text(text)
    (tmp_path / ".aws" / "credentials").write_text(secrets)


@pytest.mark.usefixtures("store")
def test_each_bucket_with_its_own_keys(bucket, tmp_path, caplog):
    """Two stores with keys of their own beside the session's, which is open to everybody."""
    caplog.set_level(logging.DEBUG)
    other = tmp_path / "second" / "deep-sky"
    other.mkdir(parents=True)
    for name in ("plain.fits", "one.tif", "swath.nc"):
        shutil.copy(bucket / name, other / name)
    place = ObjectStore(other.parent, keys=("KEYOFDEEP", "canary-of-deep"))
    front = Partial(place.endpoint)
    place.start()
    try:
        with served(front) as address:
            write_profiles(
                tmp_path,
                f"[profile archive]\ncupola_buckets = eodata, deep-*\nendpoint_url = {address}\nregion = here\n",
                "[archive]\naws_access_key_id = KEYOFDEEP\naws_secret_access_key = canary-of-deep\n",
            )
            listed = collections.open("s3://deep-sky/")
            assert {item.id for item in listed} == {"plain", "one", "swath"}, listed._found.table.unreadable
            for base in ("s3://deep-sky", "s3://bucket"):
                with open_image(f"{base}/one.tif") as image:
                    assert image.read(1).max() == 7
                with (
                    open_image(f"{base}/plain.fits") as image,
                    open_image(str(bucket / "plain.fits")) as file,
                ):
                    assert np.array_equal(image.read(1, window=WINDOW), file.read(1, window=WINDOW))
            # Wrong ones are told by the profile's name.
            secrets = tmp_path / ".aws" / "credentials"
            secrets.write_text(
                "[archive]\naws_access_key_id = KEYOFDEEP\naws_secret_access_key = canary-of-nobody\n"
            )
            ranges.forget()
            with pytest.raises(ImageError, match="aws_secret_access_key of the profile 'archive'"):
                open_image("s3://deep-sky/plain.fits")
            with pytest.raises(InputError, match="aws_secret_access_key of the profile 'archive'"):
                listed.refresh()
            secrets.write_text("")
            with pytest.raises(InputError, match="give the profile 'archive' keys"):
                listed.refresh()
    finally:
        place.stop()
    assert "canary" not in caplog.text
    assert "canary" not in repr(keys.Store(key="KEYOFDEEP", secret="canary-of-deep"))


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("role_arn = arn:aws:iam::1:role/reader", "gets its keys by role_arn"),
        ("aws_access_key_id = HALF", "half of a pair of keys"),
        ("not a line of a profile", "write profiles as"),
    ],
)
def test_profiles_that_cannot_be_used(tmp_path, said, reason):
    write_profiles(tmp_path, f"[profile archive]\ncupola_buckets = bucket\n{said}\n")
    for question in (lambda: collections.open("s3://bucket/"), lambda: describe("s3://bucket/unseen.tif")):
        with pytest.raises(InputError, match=reason) as caught:
            question()
        assert "HALF" not in str(caught.value)


def why(address):
    """The sentence for a listing, for a file that GDAL reads and for one that it does not."""
    found = []
    for question in (
        lambda: collections.open(f"{address}/"),
        lambda: open_image(f"{address}/one.tif"),
        lambda: open_image(f"{address}/plain.fits"),
    ):
        with pytest.raises(CupolaError) as caught:
            question()
        found.append((type(caught.value), str(caught.value)))
        assert "\n" not in found[-1][1]
    return found


def test_bucket_that_is_not_there(store):
    host = store.address.removeprefix("http://")
    for kind, said in why("s3://nowhere"):
        assert f"there is no bucket nowhere at {host}; look at its name and at AWS_ENDPOINT_URL" in said
        assert kind in (NotFoundError, ImageError)


def test_no_way_to_the_store(monkeypatch):
    port = free_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    for kind, said in why("s3://bucket"):
        assert f"127.0.0.1:{port} does not answer; look at AWS_ENDPOINT_URL" in said
        assert kind in (UnavailableError, ImageError)


def test_bucket_of_another_region_is_asked_there(store, monkeypatch):
    def elsewhere(headers):
        if "/eu-west-1/s3/" in headers.get("authorization", ""):
            return None
        return 400, "AuthorizationHeaderMalformed", {"x-amz-bucket-region": "eu-west-1"}

    store.refuse = elsewhere
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ANYBODY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert "one" in {item.id for item in collections.open("s3://bucket/")}
    with open_image("s3://bucket/plain.fits") as image:
        assert image.read(1, window=WINDOW).any()
    # A store that sends everybody on says no region at all.
    store.refuse = lambda _headers: (301, "PermanentRedirect", {})
    for _, said in why("s3://other"):
        assert "the bucket other lies in another region or store; set AWS_REGION and AWS_ENDPOINT_URL" in said


def test_bucket_whose_readers_pay(store, monkeypatch):
    store.refuse = lambda headers: None if "x-amz-request-payer" in headers else (403, "AccessDenied", {})
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ANYBODY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    for _, said in why("s3://paid"):
        assert "or say AWS_REQUEST_PAYER=requester if its readers pay" in said
    monkeypatch.setenv("AWS_REQUEST_PAYER", "requester")
    with open_image("s3://paid/one.tif") as image:
        assert image.read(1).max() == 7
    with pytest.raises(ImageError, match="copy others from paid to a volume"):
        open_image("s3://paid/plain.fits")
