# ruff: noqa: ARG005, PLW0108 - one signature for all cases
from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.exceptions import InputError
from cupola.lab import collections
from cupola.lab.chains import Chain
from cupola.lab.chains.graph.bands import Bands
from cupola.lab.chains.graph.context import NOWHERE
from cupola.lab.chains.graph.program import compute
from cupola.lab.chains.graph.source import Source


@pytest.fixture
def image(tmp_path, write_image):
    array = np.arange(2 * 6 * 5, dtype="uint16").reshape(2, 6, 5)
    return collections.open(write_image(tmp_path / "image.tif", array, nodata=0))


def value(chain, **bands):
    arrays = {name: [np.asarray(array, "float32")] for name, array in bands.items()}
    program = chain.program

    def leaf(place):
        return np.stack([array for name in program.lines[place].step.names for array in arrays[name]])

    return compute(program, program.section(program.last), leaf, NOWHERE)


A = np.array([[1.0, 2.0, np.nan]])
B = np.array([[3.0, 0.0, 5.0]])


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda a, b: a + b, [4, 2, np.nan]),
        (lambda a, b: a - b, [-2, 2, np.nan]),
        (lambda a, b: a * b, [3, 0, np.nan]),
        (lambda a, b: a / b, [1 / 3, np.inf, np.nan]),
        (lambda a, b: b**2, [9, 0, 25]),
        (lambda a, b: 2**b, [8, 1, 32]),
        (lambda a, b: b // 2, [1, 0, 2]),
        (lambda a, b: b % 2, [1, 0, 1]),
        (lambda a, b: 10 - b, [7, 10, 5]),
        (lambda a, b: 1 + b, [4, 1, 6]),
        (lambda a, b: 2 * b, [6, 0, 10]),
        (lambda a, b: 6 / b, [2, np.inf, 1.2]),
        (lambda a, b: -b, [-3, 0, -5]),
        (lambda a, b: abs(a - b), [2, 2, np.nan]),
        (lambda a, b: a < b, [1, 0, np.nan]),
        (lambda a, b: a <= 1, [1, 0, np.nan]),
        (lambda a, b: a > b, [0, 1, np.nan]),
        (lambda a, b: b >= 3, [1, 0, 1]),
        (lambda a, b: b == 3, [1, 0, 0]),
        (lambda a, b: b != 3, [0, 1, 1]),
        (lambda a, b: (b > 1) & (b < 4), [1, 0, 0]),
        (lambda a, b: (b < 1) | (b > 4), [0, 1, 1]),
        (lambda a, b: ~(b > 1), [0, 1, 0]),
        (lambda a, b: b.where(a > 1), [np.nan, 0, np.nan]),
        (lambda a, b: b.where(b > 1, -1), [3, -1, 5]),
        (lambda a, b: b.where(b > 1, a), [3, 2, 5]),
        (lambda a, b: b.clip(1, 4), [3, 1, 4]),
        (lambda a, b: np.sqrt(b), [3**0.5, 0, 5**0.5]),
        (lambda a, b: np.maximum(a, b), [3, 2, np.nan]),
        (lambda a, b: np.float32(2) * b, [6, 0, 10]),
        (lambda a, b: np.isnan(a), [0, 0, 1]),
        (lambda a, b: a + np.int64(1) + True, [3, 4, np.nan]),
    ],
)
def test_arithmetic_and_comparisons(image, build, expected):
    chain = build(image["b1"], image["b2"])
    expected = np.array([[expected]], "float32")
    assert np.allclose(value(chain, b1=A, b2=B), expected, equal_nan=True)
    again = Chain.from_json(chain.to_json())
    assert np.allclose(value(again, b1=A, b2=B), expected, equal_nan=True)


def test_json_and_hash_stay_the_same_over_a_round_trip(image):
    chain = image["b1", "b2"].map(lambda one, two: one - two, halo=3)[0] * 2 + float("inf")
    again = Chain.from_json(chain.to_json())
    assert again.to_json() == chain.to_json()
    assert again.hash == chain.hash
    assert (again.bands, again.halo) == (("b1", "b2"), 3)
    assert len(again.collection) == 1
    assert pickle.loads(pickle.dumps(chain)).hash == chain.hash  # noqa: S301 - made here
    assert json.loads(chain.to_json())["version"] == 2


def test_hash_tells_chains_apart(image):
    one, two = image["b1"], image["b2"]
    chains = [
        one,
        two,
        image["b1", "b2"],
        one + 1,
        one + 2,
        1 + one,
        one - two,
        two - one,
        one.map(abs),
        one[0],
    ]
    chains += [one.map(np.sin), one.map(np.sin, halo=1), one + 1.5, one.where(two > 1), one.where(two > 1, 0)]
    chains.append(collections.open(image.source, bbox=(-180, -90, 180, 90))["b1"])
    assert len({chain.hash for chain in chains}) == len(chains)


def test_changed_closure_changes_the_hash(image):
    def made(factor):
        return image["b1"].map(lambda band: band * factor)

    assert made(2).hash == made(2).hash
    assert made(2).hash != made(3).hash
    assert made(2).functions[0].sha256 != made(3).functions[0].sha256


def test_equal_parts_are_written_and_computed_once(image):
    chain = image["b1"]
    for _ in range(200):
        chain = chain + chain
    chain = (image["b1"] + 1) * (image["b1"] + 1) + chain * 0
    assert len(json.loads(chain.to_json())["steps"]) == 1 + 200 + 2 + 2
    assert value(chain, b1=np.zeros((1, 1)))[0, 0, 0] == 1


def test_a_very_long_chain_needs_no_recursion(image):
    chain = image["b1"]
    for _ in range(3000):
        chain = chain + 1
    assert value(Chain.from_json(chain.to_json()), b1=[[0.0]])[0, 0, 0] == 3000


def test_halos_add_up_along_the_longest_way(image):
    one = image["b1"].map(np.abs, halo=2)
    assert (one.map(np.abs, halo=3) + image["b1"].map(np.abs, halo=4)).halo == 5


def test_band_selection(image):
    both = image["b1", "b2"]
    assert both["b2"].bands == ("b2",)
    assert value(both.map(lambda a, b: (a, b, a + b))[-1], b1=A, b2=B)[0, 0, 0] == 4
    with pytest.raises(InputError, match="no band 'b3'"):
        both["b3"]
    with pytest.raises(InputError, match="by number"):
        (both + 1)["b1"]
    with pytest.raises(InputError, match="no band 2"):
        value(both[2], b1=A, b2=B)
    with pytest.raises(TypeError, match="by number"):
        iter(both)


def test_band_counts_must_fit(image):
    three, two = image["b1"].map(lambda a: (a, a, a)), image["b1", "b2"]
    assert value(two + image["b1"], b1=A, b2=B).shape == (2, 1, 3)
    with pytest.raises(InputError, match="2 and 3 bands"):
        value(two + three, b1=A, b2=B)


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda chain: chain + np.ones((2, 2)), "np.add|ndarray"),
        (lambda chain: chain + "1", "str"),
        (lambda chain: np.sin(chain, out=np.ones(1)), "use map"),
        (lambda chain: np.nanmean(chain, axis=0), "np.nanmean does not work on chains"),
        (lambda chain: np.where(chain > 0, chain, 0), "np.where does not work on chains"),
        (lambda chain: np.asarray(chain), "compute"),
        (lambda chain: chain.map(3), "takes a function"),
        (lambda chain: chain.map(abs, halo=-1), "halo"),
        (lambda chain: chain.map(abs, halo=True), "halo"),
        (lambda chain: chain.map(abs, halo=2.0), "halo"),
        (lambda chain: chain.where(3), "condition"),
        (lambda chain: chain["x":"y"], "by number"),
    ],
)
def test_wrong_use_is_told(image, use, words):
    with pytest.raises(InputError, match=words):
        use(image["b1"])


def test_chains_of_different_collections_do_not_mix(image, tmp_path, write_image):
    other = collections.open(write_image(tmp_path / "other.tif", np.ones((4, 4), "uint8")))
    with pytest.raises(InputError, match="different collections"):
        image["b1"] + other["b1"]


def test_a_chain_has_no_truth_value(image):
    with pytest.raises(TypeError, match=r"& and \|"):
        bool(image["b1"] > 1)


def test_looks(image):
    def ndvi(red, nir):
        return nir - red

    chain = image["b1", "b2"].map(ndvi)
    assert chain.label == "ndvi(b1, b2)"
    assert "def ndvi" in chain._repr_html_()
    assert chain.hash[:12] in repr(chain)
    assert chain.source.startswith("def ndvi(red, nir):")
    assert {image["b1"].label, (image["b1"] + 1).label, image["b1"][0].label} == {
        "b1", "add of b1", "computed from b1",
    }  # fmt: skip


HEAD = '{"type": "cupola-chain", "version": 1'
OVER = HEAD + ', "collection": {"source": "/x"}, "steps": '


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        "{}",
        '{"type": "cupola-chain", "version": 3}',
        HEAD + "}",
        OVER + "[]}",
        OVER + '[{"op": "rm"}]}',
        OVER + '[{"op": "select", "inputs": [0], "index": 0}]}',
        OVER + '[{"op": "bands", "names": ["a"]}, {"op": "ufunc", "name": "frompyfunc", "inputs": [0]}]}',
        OVER
        + '[{"op": "bands", "names": ["a"]}, {"op": "ufunc", "name": "add", "inputs": [{"number": "x"}]}]}',
    ],
)
def test_wrong_json_is_refused(text):
    with pytest.raises(InputError):
        Chain.from_json(text)


@given(st.lists(st.sampled_from("+-*n<w"), max_size=30), st.lists(st.floats(-9, 9), min_size=30, max_size=30))
def test_any_chain_survives_json(operations, numbers):
    source = Source({"source": "/x"})
    chain = start = Chain(Bands((), source, ("b1",)), source)
    for operation, number in zip(operations, numbers, strict=False):
        match operation:
            case "+":
                chain = chain + start
            case "-":
                chain = number - chain
            case "*":
                chain = chain * number
            case "n":
                chain = -chain
            case "<":
                chain = chain < number
            case "w":
                chain = chain.where(start > number, number)
    again = Chain.from_json(chain.to_json())
    assert again.hash == chain.hash
    assert np.array_equal(value(again, b1=A), value(chain, b1=A), equal_nan=True)
