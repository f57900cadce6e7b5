"""What a query is made of, and how it is asked of many items at once.

A condition on something that an item does not say is neither true nor false (as in SQL): such an item passes
neither the condition nor its opposite.
"""

from __future__ import annotations

import json
import math
import operator
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from typing_extensions import override

from cupola.exceptions import InputError
from cupola.lab.collections.items import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

__all__ = [
    "FLIPPED",
    "OPERATORS",
    "TIMES",
    "Among",
    "Both",
    "Circle",
    "Column",
    "Compare",
    "Condition",
    "Either",
    "Like",
    "Missing",
    "Not",
    "Rows",
    "Value",
]

Value = bool | int | float | str
Truth = "tuple[NDArray[np.bool_], NDArray[np.bool_]]"

OPERATORS = {sign: sign for sign in ("=", "<>", "<", "<=", ">", ">=")} | {"==": "=", "!=": "<>"}
"""Every spelling of a comparison, and CQL2's."""
FLIPPED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
"""The same comparison with its sides exchanged."""
TIMES = frozenset(
    {"datetime", "start_datetime", "end_datetime", "created", "updated", "published", "expires"}
)
"""Properties whose text is a time: they are compared as times, whatever their zone and precision."""

_POLE = 90.0
_EXACT = 2**53
"""From here on not every whole number is a float."""
_WORD = re.compile(r"[A-Za-z_][\w:.\-]*")
_RESERVED = frozenset(
    {"and", "or", "not", "in", "is", "like", "between", "true", "false", "null", "none", "circle"}
)
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass
class Column:
    """One property of many items: numbers as they are, anything else as numbers into a list of its few values."""

    numbers: NDArray[np.float64] | None
    """NaN where an item does not say it."""
    codes: NDArray[np.intp] | None = None
    """-1 where an item does not say it."""
    values: list[Any] = field(default_factory=list)

    @classmethod
    def of(cls, values: Sequence[Any]) -> Column:
        """Return the column of these values; nothing (None) where an item does not say it."""
        if all(
            value is None or (isinstance(value, int | float) and not isinstance(value, bool))
            for value in values
        ):
            return cls(np.array([math.nan if value is None else value for value in values], dtype=np.float64))
        known: dict[Any, int] = {}
        distinct: list[Any] = []
        codes = np.full(len(values), -1, dtype=np.intp)
        for row, value in enumerate(values):
            if value is None:
                continue
            key = (type(value), value) if isinstance(value, bool | int | float | str) else json.dumps(value)
            code = known.setdefault(key, len(distinct))
            if code == len(distinct):
                distinct.append(value)
            codes[row] = code
        return cls(None, codes, distinct)

    def test(self, check: Callable[[Any], bool | None]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return where `check` holds, and where it is known at all; it is asked once per distinct value."""
        if self.codes is None:
            numbers = self.numbers if self.numbers is not None else np.empty(0)
            distinct, codes = np.unique(numbers, return_inverse=True)
            values: list[Any] = [None if math.isnan(value) else float(value) for value in distinct]
        else:
            codes, values = self.codes, self.values
        found = [None if value is None else check(value) for value in values]
        # One entry more: code -1, an item that does not say it.
        true = np.array([one is True for one in found] + [False])
        known = np.array([one is not None for one in found] + [False])
        return true[codes], known[codes]


class Rows(Protocol):
    """Many items, asked by column."""

    def column(self, name: str) -> Column:
        """Return a property of all items."""

    def in_circle(self, longitude: float, latitude: float, radius: float) -> NDArray[np.bool_]:
        """Tell which footprints touch a circle."""


@dataclass(frozen=True)
class Condition:
    """What an item may fulfil; its text reads back as the same condition."""

    def test(self, rows: Rows) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return where it holds, and where that is known at all."""
        raise NotImplementedError

    def names(self) -> Iterator[str]:
        """Yield the properties it asks for."""
        yield from ()


@dataclass(frozen=True)
class OfProperty(Condition):
    """A condition on one property."""

    name: str

    @override
    def names(self) -> Iterator[str]:
        yield self.name


@dataclass(frozen=True)
class Compare(OfProperty):
    """A property beside a value."""

    sign: str
    value: Value

    @override
    def __str__(self) -> str:
        return f"{_name(self.name)} {self.sign} {_literal(self.value)}"

    @override
    def test(self, rows: Rows) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        column = rows.column(self.name)
        if (
            column.numbers is not None
            and isinstance(self.value, int | float)
            and not isinstance(self.value, bool)
        ):
            known = ~np.isnan(column.numbers)
            return known & _COMPARE[self.sign](column.numbers, self.value), known
        return column.test(lambda value: compare(value, self.sign, self.value, time=self.name in TIMES))


def compare(value: Any, sign: str, wanted: Value, *, time: bool = False) -> bool | None:
    """Compare a property with a value: nothing where their kinds differ; a list passes when one of its entries does."""
    if isinstance(value, list):
        found = [compare(one, sign, wanted, time=time) for one in value]
        known = [one for one in found if one is not None]
        return any(known) if known else None
    if time:
        return _compare_times(value, sign, wanted)
    if isinstance(value, bool) or isinstance(wanted, bool):
        if not (isinstance(value, bool) and isinstance(wanted, bool)) or sign not in ("=", "<>"):
            return None
    elif isinstance(value, str) != isinstance(wanted, str) or not isinstance(value, int | float | str):
        return None
    return bool(_COMPARE[sign](value, wanted))


def _compare_times(value: Any, sign: str, wanted: Value) -> bool | None:
    one, other = parse_time(value), parse_time(wanted)
    if one is None or other is None:
        return None
    return bool(_COMPARE[sign](one, other))


@dataclass(frozen=True)
class Among(OfProperty):
    """A property that is one of several values."""

    values: tuple[Value, ...]

    @override
    def __str__(self) -> str:
        return f"{_name(self.name)} IN ({', '.join(map(_literal, self.values))})"

    @override
    def test(self, rows: Rows) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        time = self.name in TIMES
        return rows.column(self.name).test(
            lambda value: any(compare(value, "=", wanted, time=time) for wanted in self.values)
        )


@dataclass(frozen=True)
class Like(OfProperty):
    """A text beside a pattern, in which ``%`` stands for anything and ``_`` for one character."""

    pattern: str

    @override
    def __str__(self) -> str:
        return f"{_name(self.name)} LIKE {_literal(self.pattern)}"

    @override
    def test(self, rows: Rows) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        parts = re.findall(r"\\.|[%_]|[^%_\\]+|\\$", self.pattern, re.DOTALL)
        words = {"%": ".*", "_": "."}
        pattern = "".join(
            words.get(part) or re.escape(part[1:] if part[0] == "\\" else part) for part in parts
        )
        fits = re.compile(pattern, re.DOTALL | re.IGNORECASE).fullmatch

        def check(value: Any) -> bool | None:
            texts = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]
            return any(fits(text) for text in texts) if texts else None

        return rows.column(self.name).test(check)


@dataclass(frozen=True)
class Missing(OfProperty):
    """A property that an item does not say."""

    @override
    def __str__(self) -> str:
        return f"{_name(self.name)} IS NULL"

    @override
    def test(self, rows: Rows) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        column = rows.column(self.name)
        missing: NDArray[np.bool_]
        if column.codes is not None:
            missing = column.codes == -1
        else:
            missing = np.isnan(column.numbers if column.numbers is not None else np.empty(0))
        return missing, np.ones(len(missing), dtype=np.bool_)


@dataclass(frozen=True)
class Circle(Condition):
    """A footprint that touches a circle of `radius` degrees on the sky or a body."""

    longitude: float
    latitude: float
    radius: float

    def __post_init__(self) -> None:
        numbers = (self.longitude, self.latitude, self.radius)
        within = abs(self.latitude) <= _POLE and 0 <= self.radius <= 2 * _POLE
        if not all(map(math.isfinite, numbers)) or not within:
            raise InputError(
                "A circle is (right ascension, declination, radius) in degrees with the declination within ±90 and "
                f"the radius within 0 ... 180, not {numbers}."
            )

    @override
    def __str__(self) -> str:
        return f"circle({self.longitude!r}, {self.latitude!r}, {self.radius!r})"

    @override
    def test(self, rows: Rows) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        found = rows.in_circle(self.longitude, self.latitude, self.radius)
        return found, np.ones(len(found), dtype=np.bool_)


@dataclass(frozen=True)
class Not(Condition):
    """The opposite."""

    part: Condition

    @override
    def __str__(self) -> str:
        return f"NOT ({self.part})"

    @override
    def names(self) -> Iterator[str]:
        yield from self.part.names()

    @override
    def test(self, rows: Rows) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        true, known = self.part.test(rows)
        return known & ~true, known


@dataclass(frozen=True)
class Several(Condition):
    """Conditions joined by a word."""

    parts: tuple[Condition, ...]

    word: ClassVar[str]
    passes: ClassVar[np.ufunc]
    """How what is true of the parts is joined; what is false of them is joined the other way."""
    fails: ClassVar[np.ufunc]

    @override
    def __str__(self) -> str:
        return f" {self.word} ".join(
            f"({part})" if isinstance(part, Several) else str(part) for part in self.parts
        )

    @override
    def names(self) -> Iterator[str]:
        for part in self.parts:
            yield from part.names()

    @override
    def test(self, rows: Rows) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        results = [part.test(rows) for part in self.parts]
        true = self.passes.reduce([true for true, _ in results])
        false = self.fails.reduce([known & ~true for true, known in results])
        return true, true | false


class Both(Several):
    """All of several."""

    word, passes, fails = "AND", np.logical_and, np.logical_or


class Either(Several):
    """At least one of several."""

    word, passes, fails = "OR", np.logical_or, np.logical_and


def _name(name: str) -> str:
    if _WORD.fullmatch(name) and name.lower() not in _RESERVED:
        return name
    return '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'


def _literal(value: Value) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if not math.isfinite(value):
        raise InputError(f"{value} is no number to compare a property with.")
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return repr(int(value))
    return repr(value)
