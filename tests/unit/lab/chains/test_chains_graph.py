"""The graph of a chain: its JSON, its hash, its parts; for any chain that can be built."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cupola.exceptions import BandError, InputError
from cupola.lab import collections
from cupola.lab.chains import Chain
from cupola.lab.chains.graph import STEPS, Program, Source
from cupola.lab.chains.graph.bands import Bands
from cupola.lab.chains.graph.masks import SCL_CLASSES

NUMBERS = st.floats(-9, 9, width=32) | st.sampled_from([0.0, -0.0, float("nan"), float("inf"), 1e-30])
SPANS = st.sampled_from([None, "2020-02", "2021-01-01/.."])


@st.composite
def chains(draw, *, most=12):  # noqa: C901, PLR0912 - one case per step
    """Draw any chain over one or several collections, built in any order."""
    source = Source({"source": draw(st.sampled_from(["/a", "/b"])), "datetime": draw(SPANS)})
    chain = start = Chain(Bands((), source, ("b1", "b2")), source)
    for _ in range(draw(st.integers(0, most))):
        number = draw(NUMBERS)
        match draw(st.integers(0, 11)):
            case 0:
                chain = chain + number
            case 1:
                chain = number - chain
            case 2:
                chain = chain * chain
            case 3:
                chain = chain.where(chain > number, number)
            case 4:
                chain = chain.mask(chain <= number)
            case 5:
                chain = np.sqrt(chain)[draw(st.integers(-2, 1))].stack(chain)
            case 6:
                chain = chain.at(draw(st.sampled_from([30, 0.5, 1000])))
            case 7:
                chain = chain.isin([1, 2, draw(st.integers(3, 9))]) | chain.bits(1, 4)
            case 8:
                chain = chain.resample(draw(st.sampled_from(["bilinear", "nearest", "mode"])))
            case 9:
                chain = chain.map(np.abs, halo=draw(st.integers(0, 3)))
            case 10 if not chain.reduced:
                chain = draw(st.sampled_from([Chain.mean, Chain.median, Chain.mosaic, Chain.count]))(chain)
            case _ if chain.reduced:
                other = Source({"source": "/other", "datetime": draw(SPANS)})
                chain = chain - Chain(Bands((), other, ("x",)), other).percentile(draw(st.integers(0, 100)))
            case _:
                chain = chain + start
    return chain


@settings(max_examples=150, deadline=None)
@given(chains())
def test_any_chain_survives_its_json(chain):
    again = Chain.from_json(chain.to_json())
    assert again.to_json() == chain.to_json()
    assert again.hash == chain.hash
    assert (again.reduced, again.halo, again.bands) == (chain.reduced, chain.halo, chain.bands)
    assert again.sources == chain.sources
    assert pickle.loads(pickle.dumps(chain)).hash == chain.hash  # noqa: S301 - made here
    assert len(chain.explain().splitlines()) == len(chain.program.lines)
    assert all(line.step.op in STEPS for line in chain.program.lines)


@settings(max_examples=60, deadline=None)
@given(chains(), st.randoms(use_true_random=False))
def test_hash_does_not_depend_on_how_the_json_was_written(chain, shuffler):
    """Keys in any order, spaces anywhere, options as other programs write them: the same chain."""
    document = json.loads(chain.to_json())
    keys = list(document)
    shuffler.shuffle(keys)
    text = json.dumps({key: document[key] for key in keys}, indent=3)
    assert Chain.from_json(text).hash == chain.hash


@settings(max_examples=60, deadline=None)
@given(chains(), st.data())
def test_another_number_anywhere_is_another_chain(chain, data):
    document = json.loads(chain.to_json())
    constants = [
        part
        for step in document["steps"]
        for part in step.get("inputs", [])
        if isinstance(part, dict) and isinstance(part["number"], float) and abs(part["number"]) < 1e6
    ]
    if constants:
        data.draw(st.sampled_from(constants))["number"] += 1.0
        assert Chain.from_json(json.dumps(document)).hash != chain.hash


@settings(max_examples=60, deadline=None)
@given(chains(most=6))
def test_equal_parts_are_one(chain):
    again = Chain.from_json(chain.to_json())
    both = chain - again if chain.per_item == again.per_item else chain
    assert len(both.program.lines) == len(chain.program.lines) + 1
    assert Program(both.step).lines[-1].inputs == (both.program.last - 1,) * 2


def test_versions_of_the_json():
    old = {
        "type": "cupola-chain",
        "version": 1,
        "collection": {"source": "/x", "bbox": [1, 2, 3, 4], "datetime": "2020"},
        "steps": [
            {"op": "bands", "names": ["a", "b"]},
            {"op": "select", "inputs": [0], "index": 1},
            {"op": "ufunc", "name": "add", "inputs": [1, {"number": 1.0}]},
            {"op": "where", "inputs": [2, 1, {"number": "nan"}]},
        ],
    }
    chain = Chain.from_json(json.dumps(old))
    assert chain.reference == {"source": "/x", "bbox": [1, 2, 3, 4], "datetime": "2020", "query": None}
    document = json.loads(chain.to_json())
    assert document["version"] == 2
    assert document["collections"] == [chain.reference]
    assert document["steps"][0] == {"op": "bands", "collection": 0, "names": ["a", "b"]}
    assert [step["op"] for step in document["steps"]] == ["bands", "select", "ufunc", "where"]


HEAD = {"type": "cupola-chain", "version": 2, "collections": [{"source": "/x"}]}
BANDS = {"op": "bands", "collection": 0, "names": ["a"]}


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([{**BANDS, "collection": 1}], "no collection 1"),
        ([{**BANDS, "names": "ab"}], "list of names"),
        ([{**BANDS, "resampling": "magic"}], "magic"),
        ([BANDS, {"op": "select", "inputs": [True], "index": 0}], "no earlier step True"),
        ([BANDS, {"op": "select", "inputs": [1], "index": 0}], "no earlier step 1"),
        ([BANDS, {"op": "select", "inputs": [0], "index": 0, "more": 1}], "no option 'more'"),
        ([BANDS, {"op": "ufunc", "name": "add", "inputs": [0]}], "takes 2 values"),
        ([BANDS, {"op": "ufunc", "name": "sqrt", "inputs": [{"number": 3}]}], "needs an earlier step"),
        ([BANDS, {"op": "where", "inputs": [{"number": 1}, 0, 0]}], "condition is a number"),
        ([BANDS, {"op": "at", "inputs": [0], "metres": -1}], "positive number"),
        ([BANDS, {"op": "reduce", "inputs": [0], "how": "best"}], "no reduction 'best'"),
        ([BANDS, {"op": "reduce", "inputs": [0], "how": "percentile"}], "q goes with percentile"),
        ([BANDS, {"op": "reduce", "inputs": [0], "how": "percentile", "q": 101}], "0 to 100"),
        ([BANDS, {"op": "bits", "inputs": [0], "bits": [40]}], "bits go from"),
        ([BANDS, {"op": "isin", "inputs": [0], "values": "12"}], "list of numbers"),
        ([BANDS, {"op": "map", "inputs": [0], "halo": 9999, "function": {"name": "", "pickle": ""}}], "halo"),
        ([BANDS, {"op": ["x"]}], "no step"),
        ([BANDS, BANDS, {"op": "reduce", "inputs": [0, 1], "how": "mean"}], "takes 1 input, not 2"),
        ([BANDS, {"op": "where", "inputs": [0]}], "takes 3 inputs, not 1"),
        (["bands"], "Step 0"),
    ],
)
def test_wrong_steps_are_named(steps, words):
    with pytest.raises(InputError, match=words):
        Chain.from_json(json.dumps({**HEAD, "steps": steps}))


def test_chains_that_cannot_meet():
    one, other = (Source({"source": name}) for name in ("/one", "/other"))
    first, second = (Chain(Bands((), source, ("b1",)), source) for source in (one, other))
    with pytest.raises(
        InputError, match=r"different collections \(/one and /other\).*mean\(\) or chain\.mosaic"
    ):
        first - second
    with pytest.raises(InputError, match="one image already"):
        first.mean().max()
    assert (first.mean() - second.mosaic()).reduced
    masked = first.mask(second.mosaic() > 3)
    assert masked.per_item == one
    assert masked.bands == ("b1",)
    assert masked.sources == (other, one)
    text = masked.to_json().replace('"op":"reduce"', '"op":"at","metres":3').replace('"how":"mosaic",', "")
    with pytest.raises(InputError, match="different collections"):
        Chain.from_json(text)


def test_the_same_chain_over_another_time():
    source = Source({"source": "/x", "datetime": "2019-03", "bbox": [1, 2, 3, 4]})
    chain = Chain(Bands((), source, ("b1",), "nearest"), source) * 2
    other = chain.during("2020-03")
    assert other.reference == {**chain.reference, "datetime": "2020-03"}
    assert other.per_item == other.sources[0]
    assert other.during("2019-03").hash == chain.hash
    assert json.loads((other.mean() - chain.mean()).to_json())["collections"] == [
        other.reference,
        chain.reference,
    ]
    with pytest.raises(InputError, match="more than one collection"):
        (other.mean() - chain.mean()).during("2021")
    with pytest.raises(InputError, match="time"):
        chain.during("last year")


def test_resampling_is_of_the_bands_and_not_of_masks():
    source = Source({"source": "/x"})
    band, flags = (Chain(Bands((), source, *rest), source) for rest in ((("b1",),), (("qa",), "nearest")))
    chain = band.mask(flags.isin([1])).resample("cubic")
    assert [step.resampling for step in chain.program.of_kind(Bands)] == ["nearest", "cubic"]
    with pytest.raises(InputError, match="no resampling 'magic'"):
        band.resample("magic")


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), "30", None, True])
def test_a_scale_is_a_positive_number(wrong):
    source = Source({"source": "/x"})
    with pytest.raises(InputError, match="positive number of metres"):
        Chain(Bands((), source, ("b1",)), source).at(wrong)


@pytest.fixture
def s2(tmp_path, write_image, write_item):
    scl = np.arange(12, dtype="uint8").reshape(3, 4)
    write_image(tmp_path / "B04.tif", np.full((6, 8), 7, "uint16"), pixel=10)
    write_image(tmp_path / "SCL.tif", scl, pixel=20)
    assets = {"red": {"href": "B04.tif"}, "scl": {"href": "SCL.tif"}}
    write_item(tmp_path / "scene.json", assets={k: {**v, "type": "image/tiff"} for k, v in assets.items()})
    return collections.open(tmp_path)


def kept(chain):
    """Return the classes that a mask keeps; each class is a block of 2 x 2 pixels."""
    values = chain.compute().values[0]
    assert np.array_equal(np.isnan(values[::2, ::2]), np.isnan(values[1::2, 1::2]))
    return set(np.flatnonzero(~np.isnan(values[::2, ::2])))


@pytest.mark.parametrize(
    ("options", "classes"),
    [
        ({}, {2, 4, 5, 6, 7, 11}),
        ({"drop": ("cloud", "snow")}, set(range(12)) - {8, 9, 11}),
        ({"drop": "cloud shadow"}, set(range(12)) - {3}),
        ({"drop": 6}, set(range(12)) - {6}),
        ({"keep": ["vegetation", "bare-soil", 6]}, {4, 5, 6}),
        ({"keep": "water", "band": "SCL"}, {6}),
    ],
)
def test_scene_classes_are_masked_at_their_own_resolution(s2, options, classes):
    assert kept(s2["red"].mask_scl(**options)) == classes
    assert set(SCL_CLASSES.values()) == set(range(12))


@pytest.mark.parametrize(
    ("use", "error", "words"),
    [
        (lambda c: c.mask_scl(drop="clowd"), InputError, "no scene class 'clowd'.*cloud"),
        (lambda c: c.mask_scl(drop=12), InputError, "0 to 11, not 12"),
        (lambda c: c.mask_scl(drop="cloud", keep="water"), InputError, "not both"),
        (lambda c: c.mask_scl(drop=()), InputError, "at least one class"),
        (lambda c: c.mean().mask_scl(), InputError, "before the reduction"),
        (lambda c: c.mask_scl(band="green"), BandError, r"green.*band=\.\.\."),
        (lambda c: c.mask_qa(), BandError, "qa_value.*a measure of quality"),
        (lambda c: c.mask_qa("much", band="scl"), InputError, "number such as 0.75"),
        (lambda c: c.mask(3), InputError, "condition made of chains"),
        (lambda c: c.isin("ab"), InputError, "list of numbers"),
        (lambda c: c.isin(3), InputError, "list of numbers"),
        (lambda c: c.bits(), InputError, r"bits\(3, 4\)"),
        (lambda c: c.bits(24), InputError, "0 to 23"),
        (lambda c: c.percentile(101), InputError, "between 0 and 100"),
    ],
)
def test_wrong_masks_are_told(s2, use, error, words):
    with pytest.raises(error, match=words):
        use(s2["red"])


def test_quality_flags_and_classes(s2):
    assert kept(s2["red"].mask_qa(7, band="scl")) == {7, 8, 9, 10, 11}
    scl = s2["scl"]
    assert kept(s2["red"].mask(scl.bits(1, 3))) == {n for n in range(12) if n & 0b1010}
    assert kept(s2["red"].mask(~scl.isin(range(5)))) == set(range(5, 12))


def test_a_chain_tells_what_it_does(s2):
    chain = s2["red"].mask_scl(drop="cloud").at(60).mean()
    told = chain.explain().splitlines()
    assert told[0].endswith("nearest")
    assert "is one of 8, 9" in told[1]
    assert told[-2].endswith("computed at 60 m")
    assert told[-1] == f"{len(told)}. mean over time of ({len(told) - 1})"
    assert chain.label == "mean of red"
    page = chain._repr_html_()
    assert "one image of all items" in page
    assert "is one of 8, 9" in page
    deep = s2["red"]
    for _ in range(500):
        deep = deep + 1
    assert "... 461 more steps ..." in deep.explain()


def test_scales_one_inside_another_have_an_end(s2):
    chain = s2["red"]
    for _ in range(32):
        chain = chain.at(60)
    assert len(chain.hash) == 64
    assert chain.label == "red at 60 m"
    with pytest.raises(InputError, match="more than 32 times one inside another"):
        chain.at(60).to_json()


def test_a_chain_never_changes(s2):
    chain = s2["red"] + 1
    for name in ("step", "per_item", "note"):
        with pytest.raises(AttributeError, match=name):
            setattr(chain, name, None)
