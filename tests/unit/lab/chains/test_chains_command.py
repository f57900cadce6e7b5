"""Programs as steps of chains: small Python scripts stand in for others; one of them for a program of ISIS."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

from cupola.exceptions import InputError, LimitError, ProgramError
from cupola.lab import collections
from cupola.lab.bodies import tile_matrix_set
from cupola.lab.chains import Chain
from cupola.lab.chains.compute import external
from cupola.lab.chains.compute.evaluate import tile
from cupola.lab.chains.runs.fullres import write_product

SCRIPT = """#!{python}
import sys
import warnings
import numpy as np
import rasterio
warnings.simplefilter("ignore")
words = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
with rasterio.open(words["from"]) as file:
    values, profile = file.read(masked=True), file.profile
{body}
profile = dict(profile, count=len(made), driver=words.get("driver", profile["driver"]))
for name in ("blockxsize", "blockysize", "tiled", "interleave"):
    profile.pop(name, None)
with rasterio.open(words["to"], "w", **profile) as file:
    file.write(made.filled(profile["nodata"]))
with open("{log}", "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
"""
MINUS_MEAN = "made = values - values.mean(axis=(1, 2), keepdims=True)"
TWICE = "made = values * 2"


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a program on the PATH; its calls are in a log."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def put(name, body, place=folder):
        path = place / name
        path.write_text(SCRIPT.format(python=sys.executable, body=body, log=tmp_path / "calls"))
        path.chmod(0o755)
        return lambda: (tmp_path / "calls").read_text().splitlines()

    return put


@pytest.fixture
def image(tmp_path, write_image):
    array = np.random.default_rng(0).normal(100, 5, (70, 90)).astype("float32")
    array[5:9, 5:9] = np.nan
    path = write_image(
        tmp_path / "data" / "image.tif", array, nodata=np.nan, tiled=True, blockxsize=32, blockysize=32
    )
    return collections.open(path)["b1"], array


LINE = ("from={input}", "to={output}")


def test_a_program_sees_the_whole_image_once(image, program, tmp_path, monkeypatch):
    chain, array = image
    calls = program("demean", MINUS_MEAN)
    monkeypatch.setattr("cupola.lab.chains.compute.whole._WINDOW", 32)
    made = (chain + 1).command(["demean", *LINE, "id={item}"])
    values = (made * 2).compute().values[0]
    assert np.allclose(values, 2 * (array - np.nanmean(array)), atol=1e-3, equal_nan=True)
    product = write_product(made, made.collection.items[0], tmp_path / "products")
    (call,) = calls()
    assert "id=image" in call
    written = collections.open(product.parent)
    assert np.allclose(
        written[written.items[0].bands[0]].compute().values[0] * 2, values, atol=1e-3, equal_nan=True
    )
    again = Chain.from_json(made.to_json())
    assert again.hash == made.hash
    assert made.label == "demean of b1"


def test_what_a_program_is_given_is_computed_once(image, program, tmp_path, monkeypatch):
    chain, array = image
    log = tmp_path / "pixels"

    def counted(band):
        with log.open("a") as file:
            file.write(f"{band.size}\n")
        return band + 1

    def seen():
        numbers = log.read_text().split()
        log.unlink()
        return sum(map(int, numbers))

    program("twice", TWICE)
    monkeypatch.setattr("cupola.lab.chains.compute.whole._WINDOW", 32)
    other = chain.map(counted)
    made = other.command(["twice", *LINE])
    write_product(made - chain, made.collection.items[0], tmp_path / "products")
    assert seen() == array.size
    # Where its input is used beside it, that is computed for the program and for the other.
    again = other * 3
    values = (again.command(["twice", *LINE]) - again).compute().values[0]
    assert np.allclose(values, 3 * (array + 1), equal_nan=True)
    assert seen() == 2 * array.size
    made = other.command(["twice", *LINE], pointwise=True)
    assert np.allclose(made.compute().values[0], 2 * (array + 1), equal_nan=True)
    assert seen() == array.size


def test_a_viewport_refuses_programs_that_need_the_whole_image(image, program):
    program("demean", MINUS_MEAN)
    west, south, east, north = image[0].collection.items[0].bbox
    place = tile_matrix_set("WebMercatorQuad").tile((west + east) / 2, (south + north) / 2, 16)
    with pytest.raises(InputError, match=r"demean needs whole images, .* \.run\(\), or say pointwise=True"):
        tile(image[0].command(["demean", *LINE]), "WebMercatorQuad", place.x, place.y, place.z)
    program("twice", TWICE)
    pixels = tile(
        image[0].command(["twice", *LINE], pointwise=True), "WebMercatorQuad", place.x, place.y, place.z
    )
    plain = tile(image[0], "WebMercatorQuad", place.x, place.y, place.z)
    assert plain.valid.any()
    assert np.allclose(pixels.data, plain.data * 2, equal_nan=True)


def test_commands_stand_on_one_another_and_may_add_bands(image, program):
    chain, array = image
    program("twice", TWICE)
    program("both", "made = np.ma.concatenate([values, values + 1])")
    values = chain.command(["twice", *LINE]).command(["both", *LINE]).compute().values
    assert np.allclose(values, [array * 2, array * 2 + 1], equal_nan=True)


def test_a_program_of_isis_gets_a_cube_by_its_parameters(image, program, tmp_path, monkeypatch):
    chain, array = image
    root = tmp_path / "isis"
    (root / "bin" / "xml").mkdir(parents=True)
    (root / "bin" / "xml" / "fakefx.xml").write_text("<application/>")
    calls = program("fakefx", TWICE, root / "bin")
    monkeypatch.setenv("ISISROOT", str(root))
    monkeypatch.setenv("ISISDATA", str(tmp_path))
    made = chain.command(["fakefx", *LINE], input=".cub").compute().values[0]
    assert np.allclose(made, array * 2, equal_nan=True)
    (call,) = calls()
    assert "from=/" in call
    assert ".cub to=/" in call
    monkeypatch.delenv("ISISDATA")
    with pytest.raises(ProgramError, match="ISISDATA is not set"):
        (chain + 3).command(["fakefx", *LINE], input=".cub").compute()


def test_what_a_killed_process_left_is_swept(image, program, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    program("twice", TWICE)
    old, new = tmp_path / "cupola-command-old", tmp_path / "cupola-command-new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "input.tif").write_bytes(b"")
    os.utime(old, (1, 1))
    (image[0] + 11).command(["twice", *LINE]).compute()
    assert not old.exists()
    assert new.exists()


def test_a_changed_image_is_computed_again(image, program, write_image, tmp_path):
    calls = program("twice", TWICE)
    chain = image[0].command(["twice", *LINE])
    chain.compute()
    chain.compute(bbox=chain.collection.items[0].bbox)
    assert len(calls()) == 1
    write_image(tmp_path / "data" / "image.tif", np.ones((70, 90), "float32"), nodata=np.nan)
    again = collections.open(tmp_path / "data" / "image.tif")["b1"].command(["twice", *LINE])
    assert (again.compute().values == 2).all()
    assert len(calls()) == 2


@pytest.mark.parametrize(
    "case",
    [
        ("made = values; sys.exit(3)", ProgramError, "failed with exit code 3"),
        (
            "words['to'] += '.nothing.else'; made = values; words['to'] = '/dev/null/x'",
            ProgramError,
            "failed|cannot",
        ),
        ("import os; os._exit(0)", ProgramError, "wrote no output.tif"),
        ("made = values[:, :10]; profile.update(height=10)", InputError, "made 90 x 10 pixels of 90 x 70"),
        ("import time; time.sleep(60)", ProgramError, "did not finish within"),
    ],
)
def test_what_goes_wrong_is_told_and_nothing_is_left(image, program, case, tmp_path, monkeypatch):
    body, error, words = case
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    program("wrong", body)
    timeout = 2 if "sleep" in body else 60
    with pytest.raises(error, match=words):
        image[0].command(["wrong", *LINE], timeout=timeout).compute()
    assert not list(tmp_path.glob("cupola-command-*"))


def test_missing_programs_and_wrong_commands_are_told(image):
    chain = image[0]
    with pytest.raises(ProgramError, match="nosuchprogram is not installed here"):
        chain.command(["nosuchprogram", *LINE]).compute()
    for command, options, words in (
        ("fx from={input} to={output}", {}, "list of words"),
        ([], {}, "list of words"),
        (["fx", "to={output}"], {}, "must name its files"),
        (["fx", *LINE], {"input": ".doc"}, "can be given .tif"),
        (["fx", *LINE], {"output": "tif"}, "told by their ending"),
        (["fx", *LINE], {"timeout": 0}, "positive number of seconds"),
    ):
        with pytest.raises(InputError, match=words):
            chain.command(command, **options)
    with pytest.raises(InputError, match="before reductions and at"):
        chain.at(40).command(["cp", "{input}", "{output}"]).at(80).compute()


def test_a_full_disk_is_told(image, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(external, "_plain_file", full)
    with pytest.raises(LimitError, match="full"):
        image[0].command(["cp", "{input}", "{output}"]).compute()
