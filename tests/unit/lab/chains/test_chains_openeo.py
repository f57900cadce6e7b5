# ruff: noqa: ARG005, PLW0108 - one signature for all cases
from __future__ import annotations

import json

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cupola.exceptions import InputError, NotFoundError
from cupola.lab import collections
from cupola.lab.chains import Chain

PROCESSES = """
    absolute add add_dimension aggregate_spatial and apply apply_dimension apply_kernel arccos arcsin arctan arctan2
    array_create array_element ceil cos cosh count divide eq exp filter_bands first floor gt gte if int is_nodata last ln
    load_collection log lt lte max mean median merge_cubes min mod multiply neq not or power quantiles reduce_dimension
    rename_labels resample_spatial round sgn sin sinh sqrt subtract sum tan tanh xor
"""
"""Names of processes in openEO's list (version 2) that exports may use."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import rasterio
    from rasterio.transform import from_origin

    root = tmp_path_factory.mktemp("openeo") / "s2"
    root.mkdir()
    rng = np.random.default_rng(7)
    for month in (1, 2, 3):
        array = rng.uniform(-3, 9, (2, 24, 32)).astype("float32")
        array[:, 3:6, month : month + 3] = np.nan
        name = f"scene-{month}"
        with rasterio.open(
            root / f"{name}.tif", "w", driver="GTiff", dtype="float32", count=2, width=32, height=24, nodata=np.nan,
            crs="EPSG:32632", transform=from_origin(500_000, 5_000_000, 10, 10),
        ) as file:  # fmt: skip
            file.write(array)
            file.descriptions = ("red", "nir")
        item = {
            "type": "Feature", "stac_version": "1.1.0", "id": name, "geometry": None, "bbox": [8.99, 45.1, 9.01, 45.2],
            "properties": {"datetime": f"2020-0{month}-10T10:00:00Z", "eo:cloud_cover": month * 10, "platform": "a"},
            "assets": {
                band: {"href": f"{name}.tif", "roles": ["data"], "bands": [{"name": "red"}, {"name": "nir"}]}
                for band in ("data",)
            },
            "links": [],
        }  # fmt: skip
        (root / f"{name}.json").write_text(json.dumps(item))
    return root


@pytest.fixture
def s2(folder):
    return collections.open(folder)


def nodes(graph):
    """All nodes of a graph, callbacks included."""
    found = []
    for node in graph["process_graph"].values():
        found.append(node)
        found += [
            one
            for part in node["arguments"].values()
            if isinstance(part, dict) and "process_graph" in part
            for one in nodes(part)
        ]
    return found


def check(graph):
    """Look at a graph's structure as a back-end would."""
    assert sum(bool(node.get("result")) for node in graph["process_graph"].values()) == 1
    json.dumps(graph, allow_nan=False)
    for node in nodes(graph):
        assert set(node) <= {"process_id", "arguments", "result"}
        assert node["process_id"] in PROCESSES.split()
        for part in node["arguments"].values():
            for one in part if isinstance(part, list) else [part]:
                if isinstance(one, dict) and "process_graph" in one:
                    check(one)
    for name, node in graph["process_graph"].items():
        for part in node["arguments"].values():
            for one in part if isinstance(part, list) else [part]:
                if isinstance(one, dict) and "from_node" in one:
                    assert one["from_node"] in graph["process_graph"]
                    assert one["from_node"] != name


def same(chain, s2, *, rtol=1e-4):
    """Export, check, import, and compare the values; return the graph."""
    graph = chain.to_openeo()
    check(graph)
    again = Chain.from_openeo(json.loads(json.dumps(graph)), {"s2": s2})
    items = [None] if chain.reduced else [item.id for item in chain.collection.items]
    for item in items:
        one, other = values(chain, item), values(again, item)
        assert one.shape == other.shape
        assert np.allclose(one, other, rtol=rtol, atol=1e-5, equal_nan=True)
    return graph


def values(chain, item=None):
    from cupola.lab.chains.compute.areas import frame_of
    from cupola.lab.chains.compute.evaluate import on_grid

    with np.errstate(all="ignore"):
        if item is None:
            frame = frame_of(chain, chain.collection.items)
            return on_grid(chain, frame.window((0, 0, 32, 24)), max_items=None).data
        return chain.compute(item).values


def test_ndvi_is_one_callback_over_the_bands_of_one_collection(s2):
    red, nir = s2["red"], s2["nir"]
    graph = same((nir - red) / (nir + red), s2)
    names = [node["process_id"] for node in graph["process_graph"].values()]
    assert names == ["load_collection", "reduce_dimension"]
    load = graph["process_graph"]["loadcollection1"]["arguments"]
    assert load["id"] == "s2"
    assert set(load["bands"]) == {"red", "nir"}
    assert load["spatial_extent"] is load["temporal_extent"] is None


@pytest.mark.parametrize(
    "build",
    [
        lambda red, nir: red,
        lambda red, nir: red.stack(nir),
        lambda red, nir: nir.stack(red) * 2,
        lambda red, nir: red.where(nir > 2, nir),
        lambda red, nir: red.mask((nir > 0) & ~(red > 4) | (red < -1)),
        lambda red, nir: (red > nir) * 2 + 1,
        lambda red, nir: red.clip(0, 1),
        lambda red, nir: np.rint(red) + np.floor(nir) - np.ceil(red) + np.trunc(nir) * np.sign(red),
        lambda red, nir: np.arctan2(red, nir) + np.radians(red) + red % 3 + red // 2,
        lambda red, nir: np.log10(abs(red) + 1) + np.log2(abs(red) + 1) + 2**red + red**2 + np.square(nir),
        lambda red, nir: np.isnan(red) + np.fmax(red, nir) + np.minimum(red, 2),
        lambda red, nir: np.rint(red).isin([1, 2, 5]),
        lambda red, nir: -red + float("inf"),
        lambda red, nir: (red + nir).convolve([[0, 1, 0], [1, 4, 2], [0, 1, 0]], factor=0.125),
        lambda red, nir: red.mean(),
        lambda red, nir: (red * nir).median() - red.max() * nir.min(),
        lambda red, nir: red.stack(nir).percentile(80)[1] + red.sum(),
        lambda red, nir: red.stack(nir).mean() - nir.stack(red).max(),
        lambda red, nir: red.count() + red.first() - nir.last() + nir.mosaic(),
        lambda red, nir: (red.mean() > 2) & (nir.mean() > 2),
        lambda red, nir: red.mean().where(nir.max() > 6, 0),
        lambda red, nir: red.at(20).mean(),
        lambda red, nir: red.during("2020-01").mean() - red.during("2020-02/2020-03").mean(),
    ],
)
def test_what_is_exported_comes_back_with_the_same_values(s2, build):
    same(build(s2["red"], s2["nir"]), s2)


def test_filters_are_extents_and_properties(s2):
    chosen = s2.filter(
        bbox=(8, 45, 10, 46), datetime="2020-02", query="eo:cloud_cover < 25 and platform = 'a'"
    )
    graph = same(chosen["red"] * 2, s2)
    load = graph["process_graph"]["loadcollection1"]["arguments"]
    assert load["spatial_extent"] == {"west": 8, "south": 45, "east": 10, "north": 46}
    assert load["temporal_extent"] == ["2020-02-01T00:00:00Z", "2020-03-01T00:00:00Z"]
    assert set(load["properties"]) == {"eo:cloud_cover", "platform"}
    again = Chain.from_openeo(graph, {"s2": s2})
    assert [item.id for item in again.collection.items] == ["scene-2"]
    assert again.reference["datetime"] == "2020-02"


def test_statistics_in_regions(s2):
    region = shapely.box(9.0001, 45.1515, 9.0031, 45.1527)
    for stats in ("mean", "percentile_90"):
        zonal = s2["red"].mean().zonal(region, stats, by_area=False)
        graph = zonal.to_openeo()
        check(graph)
        assert graph["process_graph"]["aggregatespatial1"]["result"]
        again = Chain.from_openeo(graph, {"s2": s2}).compute()
        assert again[stats][0] == pytest.approx(zonal.compute()[stats][0])
    with pytest.raises(InputError, match="by_area=False"):
        s2["red"].zonal(region, "mean").to_openeo()
    with pytest.raises(InputError, match="ask for one"):
        s2["red"].zonal(region, ("mean", "max"), by_area=False).to_openeo()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda chain: chain.map(own_function), r"Python function own_function of map\(\)"),
        (lambda chain: chain.slope(), "no process for slope"),
        (lambda chain: chain.std(), "divides by n - 1"),
        (lambda chain: np.cbrt(chain), "no process for cbrt"),
        (lambda chain: chain.resample("cubic"), "resampling only together with a scale"),
        (lambda chain: chain.stack(chain).mosaic(), "no reducer like mosaic"),
    ],
)
def test_what_openeo_cannot_say_is_refused_by_name(s2, build, words):
    with pytest.raises(InputError, match=words):
        build(s2["red"]).to_openeo()


def own_function(band):
    return band


def test_filters_that_openeo_has_not_are_refused(s2):
    with pytest.raises(InputError, match="no filter like query of s2"):
        s2.filter(query="platform = 'a' or platform = 'b'")["red"].to_openeo()


# Graphs that others wrote


def loading(**more):
    return {
        "process_id": "load_collection",
        "arguments": {"id": "s2", "spatial_extent": None, "temporal_extent": None, **more},
    }


def over(process, **arguments):
    return {"process_graph": {"p": {"process_id": process, "arguments": arguments, "result": True}}}


X, DATA = {"from_parameter": "x"}, {"from_parameter": "data"}


def test_graphs_of_editors_are_read(s2):
    red, nir = (s2[name] for name in ("red", "nir"))
    graph = {
        "load": loading(bands=["red", "nir"], temporal_extent=["2020-01-01", "2020-03-01"]),
        "ndvi": {"process_id": "ndvi", "arguments": {"data": {"from_node": "load"}}},
        "time": {
            "process_id": "reduce_dimension",
            "arguments": {
                "data": {"from_node": "ndvi"},
                "dimension": "t",
                "reducer": over("median", data=DATA),
            },
        },
        "scale": {
            "process_id": "apply",
            "arguments": {
                "data": {"from_node": "time"},
                "process": over("linear_scale_range", x=X, inputMin=-1, inputMax=1, outputMax=255),
            },
        },
        "save": {
            "process_id": "save_result",
            "arguments": {"data": {"from_node": "scale"}, "format": "GTiff"},
            "result": True,
        },
    }
    found = Chain.from_openeo({"process": {"process_graph": graph}}, {"s2": s2})
    ndvi = ((nir - red) / (nir + red)).during("2020-01-01/2020-02-29").median()
    wanted = (np.clip(values(ndvi), -1, 1) + 1) / 2 * 255
    assert np.allclose(values(found), wanted, rtol=1e-4, equal_nan=True)


def test_masks_bands_by_label_and_joined_bands(s2):
    graph = {
        "load": loading(),
        "red": {"process_id": "filter_bands", "arguments": {"data": {"from_node": "load"}, "bands": ["red"]}},
        "low": {"process_id": "apply", "arguments": {"data": {"from_node": "red"}, "process": over("lt", x=X, y=1)}},
        "masked": {
            "process_id": "mask",
            "arguments": {"data": {"from_node": "load"}, "mask": {"from_node": "low"}, "replacement": -1},
        },
        "band": {
            "process_id": "reduce_dimension",
            "arguments": {
                "data": {"from_node": "masked"}, "dimension": "bands",
                "reducer": over("array_element", data=DATA, label="nir"),
            },
            "result": True,
        },
    }  # fmt: skip
    found = Chain.from_openeo({"process_graph": graph}, {"s2": s2})
    red, nir = s2["red"].compute("scene-1").values, s2["nir"].compute("scene-1").values
    wanted = np.where(np.isnan(red), np.nan, np.where(red < 1, -1, nir))
    assert np.allclose(found.compute("scene-1").values, wanted, equal_nan=True)


@pytest.mark.parametrize(
    ("graph", "error", "words"),
    [
        ({}, InputError, "no nodes"),
        ({"a": loading()}, InputError, "this has 0"),
        (
            {"a": {**loading(), "arguments": {"id": "other"}, "result": True}},
            NotFoundError,
            "collections={'other'",
        ),
        (
            {"a": {"process_id": "run_udf", "arguments": {}, "result": True}},
            InputError,
            "nothing like the openEO process run_udf",
        ),
        (
            {"a": {"process_id": "mask", "arguments": {"data": {"from_node": "b"}}, "result": True}},
            InputError,
            "no node 'b'",
        ),
        (
            {"a": {"process_id": "mask", "arguments": {"data": {"from_node": "a"}}, "result": True}},
            InputError,
            "in a circle",
        ),
        (
            {"a": {"process_id": "ndvi", "arguments": {}, "result": True}},
            InputError,
            "arguments of the openEO process ndvi",
        ),
        (
            {"a": {"process_id": "add", "arguments": {"x": 1, "y": 2}, "result": True}},
            InputError,
            "no data cube",
        ),
        (
            {"a": {"process_id": "add", "arguments": {"x": X, "y": 2}, "result": True}},
            InputError,
            "parameter 'x'",
        ),
    ],
)
def test_wrong_graphs_are_told_in_one_sentence(s2, graph, error, words):
    with pytest.raises(error, match=words):
        Chain.from_openeo({"process_graph": graph}, {"s2": s2})


numbers = st.sampled_from([0.0, 0.5, 1.0, 2.0, -3.0])


def expressions(inner):
    return st.one_of(
        st.tuples(st.sampled_from(["+", "-", "*", "/", "<", ">=", "==", "&", "|", "max"]), inner, inner),
        st.tuples(st.sampled_from(["abs", "neg", "not", "sqrt", "nan"]), inner),
        st.tuples(st.just("where"), inner, inner, inner),
    )


TELLS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "max": np.maximum,
    "abs": abs,
    "neg": lambda a: -a,
    "not": lambda a: ~a,
    "sqrt": np.sqrt,
    "nan": np.isnan,
}


def built(tree, red, nir):
    if not isinstance(tree, tuple):
        return {"red": red, "nir": nir}.get(tree, tree)
    sign, *rest = tree
    first, *others = (built(part, red, nir) for part in rest)
    first = first if isinstance(first, Chain) else red * 0 + first
    if sign == "where":
        condition, other = others
        return first.where(condition if isinstance(condition, Chain) else red > condition, other)
    return TELLS[sign](first, *others)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.recursive(st.one_of(st.sampled_from(["red", "nir"]), numbers), expressions, max_leaves=8))
def test_any_expression_survives_the_way_there_and_back(s2, tree):
    chain = built(tree, s2["red"], s2["nir"])
    if not isinstance(chain, Chain):
        return
    graph = chain.to_openeo()
    check(graph)
    again = Chain.from_openeo(graph, {"s2": s2})
    one, other = (values(part, "scene-1") for part in (chain, again))
    assert np.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)
