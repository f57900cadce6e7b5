from __future__ import annotations

import functools
from importlib.metadata import version

import numpy as np
import pytest

from cupola.lab.jobs.needs import packages_of, reached


def by_name(x):
    return np.sqrt(x)


def inside(x):
    from rasterio import features

    return features, x


def calls(x):
    return [inside(one) for one in x]


@functools.lru_cache
def cached(x):
    return by_name(x)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (abs, {"cloudpickle"}),
        (by_name, {"cloudpickle", "numpy"}),
        (inside, {"cloudpickle", "rasterio"}),
        (calls, {"cloudpickle", "rasterio"}),
        (cached, {"cloudpickle", "numpy"}),
        (functools.partial(by_name, 1), {"cloudpickle", "numpy"}),
        (np.sqrt, {"cloudpickle", "numpy"}),
        (lambda x: [one + 1 for one in by_name(x)], {"cloudpickle", "numpy"}),
    ],
)
def test_packages_that_a_function_uses(function, expected):
    found = packages_of(function)
    assert set(found) == expected
    assert found["cloudpickle"] == version("cloudpickle")


def test_code_of_packages_is_not_looked_into():
    codes = [code.co_name for code, _ in reached(lambda x: np.linalg.norm(by_name(x)))]
    assert codes == ["<lambda>", "by_name"]
