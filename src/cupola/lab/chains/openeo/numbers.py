"""The processes of numbers that openEO's callbacks are made of, on chains."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.lab.chains.openeo.callbacks import COMPARISONS, SAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from cupola.lab.chains.chain import Chain

__all__ = ["NUMBERS", "Labelled", "OverTime", "Property", "Value"]

Value = Any
"""A chain, a number, a list of them, or what stands for the values over time."""


@dataclass(frozen=True)
class OverTime:
    """The values of a pixel over time, or a list of their quantiles."""

    chain: Chain
    shares: tuple[float, ...] = ()


class Labelled(list[Any]):
    """The bands of a pixel, which go by number or by label."""

    def __init__(self, bands: list[Any], labels: tuple[str, ...] | None) -> None:
        super().__init__(bands)
        self.labels = labels or ()


@dataclass(frozen=True)
class Property:
    """A property of an item within a condition."""

    name: str


_SIGNS = {"eq": "=", "neq": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}


def _comparison(process: str, name: str) -> Callable[[dict[str, Value]], Value]:
    def compared(said: dict[str, Value]) -> Value:
        x, y = said["x"], said["y"]
        if isinstance(x, Property):
            shown = "'" + y.replace("'", "''") + "'" if isinstance(y, str) else str(y)
            return f"{x.name} {_SIGNS[process]} {shown}"
        return _numpy(name)(said)

    return compared


def _numpy(name: str) -> Callable[[dict[str, Value]], Value]:
    function: Any = getattr(np, name)

    def computed(said: dict[str, Value]) -> Value:
        values = [said[key] for key in "xy" if key in said]
        if len(values) != function.nin:
            raise ValueError(f"{function.nin} numbers are needed")
        with np.errstate(all="ignore"):
            return function(*(math.nan if value is None else value for value in values))

    return computed


def _least(name: str) -> Callable[[dict[str, Value]], Value]:
    """Return min and max: of bands or numbers, or over time."""

    def computed(said: dict[str, Value]) -> Value:
        data = said["data"]
        if isinstance(data, OverTime):
            return getattr(data.chain, name)()
        function = getattr(np, f"f{name}" if said.get("ignore_nodata", True) else f"{name}imum")
        found = data[0]
        for one in data[1:]:
            found = function(found, one)
        return found

    return computed


def _over_time(name: str) -> Callable[[dict[str, Value]], Value]:
    def computed(said: dict[str, Value]) -> Value:
        data = said["data"]
        if isinstance(data, OverTime):
            return getattr(data.chain, name)()
        if name in ("sum", "mean"):
            total = data[0]
            for one in data[1:]:
                total = total + one
            return total / len(data) if name == "mean" else total
        raise ValueError(f"{name} goes over time")

    return computed


def _quantiles(said: dict[str, Value]) -> Value:
    if not isinstance(said["data"], OverTime) or not isinstance(said["probabilities"], list):
        raise ValueError("quantiles go over time, by a list of probabilities")  # noqa: TRY004 - told as one sentence
    return OverTime(said["data"].chain, tuple(float(share) for share in said["probabilities"]))


def _element(said: dict[str, Value]) -> Value:
    data = said["data"]
    if isinstance(data, OverTime):
        return data.chain.percentile(data.shares[operator.index(said["index"])] * 100)
    if said.get("label") is not None:
        labels = getattr(data, "labels", ())
        if str(said["label"]) not in labels:
            raise ValueError(f"there is no band {said['label']}")
        return data[labels.index(str(said["label"]))]
    return data[operator.index(said["index"])]


def _if(said: dict[str, Value]) -> Value:
    condition: Any = said["value"]
    accept: Any = said.get("accept")
    reject: Any = said.get("reject")
    accept, reject = (math.nan if part is None else part for part in (accept, reject))
    if not hasattr(condition, "program"):
        return accept if condition else reject
    # openEO takes what is unknown for no.
    yes = condition.where(~np.isnan(condition), 0)
    if hasattr(accept, "program"):
        return accept.where(yes, reject)
    return (yes * 0 + accept).where(yes, reject)


def _scaled(said: dict[str, Value]) -> Value:
    low, high = float(said["inputMin"]), float(said["inputMax"])
    first, last = float(said.get("outputMin", 0)), float(said.get("outputMax", 1))
    x = np.minimum(np.maximum(said["x"], low), high)
    return (x - low) / (high - low) * (last - first) + first


def _log(said: dict[str, Value]) -> Value:
    base = float(said["base"])
    if base in (2.0, 10.0):
        return np.log10(said["x"]) if base == 10 else np.log2(said["x"])  # noqa: PLR2004 - the common one
    return np.log(said["x"]) / math.log(base)


NUMBERS: dict[str, Callable[[dict[str, Value]], Value]] = {
    **{process: _numpy(name) for name, process in SAME.items() if name != "fabs"},
    **{process: _comparison(process, name) for name, process in COMPARISONS.items()},
    "and": _numpy("logical_and"),
    "or": _numpy("logical_or"),
    "xor": _numpy("logical_xor"),
    "not": _numpy("logical_not"),
    "min": _least("min"),
    "max": _least("max"),
    **{name: _over_time(name) for name in ("mean", "median", "sum", "count", "first", "last")},
    "power": lambda said: said["base"] ** said["p"],
    "log": _log,
    "arctan2": lambda said: np.arctan2(said["y"], said["x"]),
    "round": lambda said: (
        np.rint(said["x"]) if not said.get("p") else np.rint(said["x"] * 10 ** said["p"]) / 10 ** said["p"]
    ),
    "is_nodata": lambda said: np.isnan(said["x"]),
    "is_nan": lambda said: np.isnan(said["x"]),
    "is_valid": lambda said: np.isfinite(said["x"]),
    "if": _if,
    "linear_scale_range": _scaled,
    "array_element": _element,
    "array_create": lambda said: list(said["data"]),
    "quantiles": _quantiles,
    "clip": lambda said: np.minimum(np.maximum(said["x"], said["min"]), said["max"]),
    "pi": lambda _: math.pi,
    "e": lambda _: math.e,
    "normalized_difference": lambda said: (said["x"] - said["y"]) / (said["x"] + said["y"]),
    "constant": lambda said: said["x"],
}
"""Processes of numbers, by name."""
