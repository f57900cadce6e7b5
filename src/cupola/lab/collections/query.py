"""Conditions on the properties of items, as people write them.

``"eo:cloud_cover < 20 and platform = 'sentinel-2a'"``: a subset of CQL2-text (OGC 21-065r2), with Python's spelling
(``==``, ``!=``, ``in [...]``, ``is None``) understood as well, and as a dictionary (``{"eo:cloud_cover": {"lt": 20}}``,
STAC's query extension, or CQL2-JSON). A condition has one canonical text, which is what chains keep.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

from cupola.exceptions import InputError
from cupola.lab.collections.conditions import (
    FLIPPED,
    OPERATORS,
    Among,
    Both,
    Circle,
    Compare,
    Condition,
    Either,
    Like,
    Missing,
    Not,
    Value,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["and_also", "circle_text", "parse_query"]

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w:])
    |(?P<text>'(?:[^']|'')*')
    |(?P<quoted>"(?:[^"\\]|\\.)*")
    |(?P<sign><=|>=|<>|==|!=|[=<>(),\[\]])
    |(?P<word>[A-Za-z_][\w:.\-]*)
    )""",
    re.VERBOSE,
)
_CONSTANTS: dict[str, Value] = {"true": True, "false": False}
_NOTHING = ("null", "none")
_NAMED = {"eq": "=", "neq": "<>", "ne": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_PATTERNS = {"startsWith": "{}%", "endsWith": "%{}", "contains": "%{}%"}
_DEEPEST = 60
"""Most brackets within one another."""
_CIRCLE_NUMBERS = 3
_EXACT = 2**53
"""From here on not every whole number is a float."""


def parse_query(query: str | Mapping[str, Any]) -> Condition:
    """Return the condition that a text or a dictionary says.

    Raises
    ------
    InputError
        When it is not understood; the text shows where.
    """
    if isinstance(query, str):
        return _Parser(query).whole()
    try:
        return _of_mapping(query)
    except (TypeError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise InputError(
            f"The query {str(query)[:200]!r} is not understood; write it like {{'eo:cloud_cover': {{'lt': 20}}}}."
        ) from error


def and_also(one: str | None, other: str | None) -> str | None:
    """Return the canonical text of two conditions that must both hold."""
    if one is None or other is None:
        return one or other
    return str(Both((parse_query(one), parse_query(other))))


def circle_text(circle: Sequence[float]) -> str:
    """Return the condition that the footprint touches a circle of (longitude, latitude, radius) in degrees.

    Raises
    ------
    InputError
        When it is no circle.
    """
    try:
        longitude, latitude, radius = (float(value) for value in circle)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"A circle is three numbers in degrees (right ascension, declination, radius), not {circle!r}."
        ) from error
    return str(Circle(longitude, latitude, radius))


class _Parser:
    """Reads one text from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.depth = 0
        self.kind, self.word = "", ""
        self.start = 0
        self._next()

    def fail(self) -> NoReturn:
        rest = self.text[self.start :].strip()
        where = f"at {rest[:40]!r}" if rest else "at its end"
        raise InputError(
            f"The query {self.text[:200]!r} is not understood {where}; write it like "
            "\"eo:cloud_cover < 20 and platform = 'sentinel-2a'\"."
        )

    def _next(self) -> None:
        self.start = self.place
        match = _TOKEN.match(self.text, self.place)
        if match is None:
            if self.text[self.place :].strip():
                self.fail()
            self.kind, self.word = "end", ""
            return
        self.kind = str(match.lastgroup)
        self.word = match[self.kind]
        self.place = match.end()

    def keyword(self, *words: str) -> bool:
        """Step over the next words if they are these, whatever their case."""
        before = self.place, self.start, self.kind, self.word
        for word in words:
            if self.kind != "word" or self.word.lower() != word:
                self.place, self.start, self.kind, self.word = before
                return False
            self._next()
        return True

    def sign(self, *signs: str) -> str:
        """Step over the next sign if it is one of these, and return it."""
        if self.kind != "sign" or self.word not in signs:
            return ""
        found = self.word
        self._next()
        return found

    def need(self, *signs: str) -> None:
        if not self.sign(*signs):
            self.fail()

    def whole(self) -> Condition:
        found = self.either()
        if self.kind != "end":
            self.fail()
        return found

    def either(self) -> Condition:
        parts = [self.both()]
        while self.keyword("or"):
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def both(self) -> Condition:
        parts = [self.one()]
        while self.keyword("and"):
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def one(self) -> Condition:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise InputError("The query has too many brackets within one another; write it flatter.")
        try:
            if self.keyword("not"):
                return Not(self.one())
            if self.sign("("):
                found = self.either()
                self.need(")")
                return found
            return self.comparison()
        finally:
            self.depth -= 1

    def comparison(self) -> Condition:
        if self.kind in ("number", "text"):
            value = self.value()
            sign = self.operator()
            return Compare(self.name(), FLIPPED[sign], value)
        if self.kind == "word" and self.word.lower() == "circle":
            return self.circle()
        name = self.name()
        if self.keyword("is"):
            negated = self.keyword("not")
            if not any(self.keyword(word) for word in _NOTHING):
                self.fail()
            return Not(Missing(name)) if negated else Missing(name)
        negated = self.keyword("not")
        found = self.special(name)
        if found is not None:
            return Not(found) if negated else found
        if negated:
            self.fail()
        sign = self.operator()
        if any(self.keyword(word) for word in _NOTHING):
            if sign not in ("=", "<>"):
                self.fail()
            return Missing(name) if sign == "=" else Not(Missing(name))
        return Compare(name, sign, self.value())

    def special(self, name: str) -> Condition | None:
        """Return a comparison that is written with a word."""
        if self.keyword("like"):
            if self.kind not in ("text", "quoted"):
                self.fail()
            return Like(name, str(self.value()))
        if self.keyword("between"):
            low = self.value()
            if not self.keyword("and"):
                self.fail()
            return Both((Compare(name, ">=", low), Compare(name, "<=", self.value())))
        if self.keyword("in"):
            closing = "]" if self.sign("[") else ")"
            if closing == ")":
                self.need("(")
            values = [self.value()]
            while self.sign(","):
                values.append(self.value())
            self.need(closing)
            return Among(name, tuple(values))
        return None

    def operator(self) -> str:
        sign = self.sign("=", "==", "<>", "!=", "<", "<=", ">", ">=")
        if not sign:
            self.fail()
        return OPERATORS[sign]

    def name(self) -> str:
        if self.kind == "word" and self.word.lower() not in _CONSTANTS:
            name = self.word.removeprefix("properties.")
        elif self.kind == "quoted":
            name = _unquoted(self.word)
        else:
            self.fail()
        self._next()
        return name

    def value(self) -> Value:
        word, kind = self.word, self.kind
        self._next()
        if kind == "number":
            number = float(word)
            return int(number) if number.is_integer() and abs(number) < _EXACT else number
        if kind == "text":
            return word[1:-1].replace("''", "'")
        if kind == "quoted":
            return _unquoted(word)
        if kind == "word" and word.lower() in ("timestamp", "date"):
            self.need("(")
            found = self.value()
            self.need(")")
            return found
        if kind != "word" or word.lower() not in _CONSTANTS:
            self.fail()
        return _CONSTANTS[word.lower()]

    def circle(self) -> Condition:
        self._next()
        self.need("(")
        numbers = [self.value()]
        while self.sign(","):
            numbers.append(self.value())
        self.need(")")
        if len(numbers) != _CIRCLE_NUMBERS or not all(isinstance(n, int | float) for n in numbers):
            self.fail()
        longitude, latitude, radius = (float(number) for number in numbers)
        return Circle(longitude, latitude, radius)


def _unquoted(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word[1:-1])


def _of_mapping(query: Mapping[str, Any]) -> Condition:
    """Return the condition of a dictionary: CQL2-JSON, or property → value, list of values, or operators."""
    if "op" in query and "args" in query:
        return _of_cql2(query)
    parts: list[Condition] = []
    for key, wanted in query.items():
        name = str(key).removeprefix("properties.")
        if isinstance(wanted, dict):
            parts += [_of_word(name, word, value) for word, value in wanted.items()]
        elif isinstance(wanted, list | tuple | set | frozenset):
            parts.append(Among(name, tuple(_value(value) for value in wanted)))
        elif wanted is None:
            parts.append(Missing(name))
        else:
            parts.append(Compare(name, "=", _value(wanted)))
    if not parts:
        raise ValueError("no condition")
    return parts[0] if len(parts) == 1 else Both(tuple(parts))


def _of_word(name: str, word: str, value: Any) -> Condition:
    if word in _PATTERNS:
        return Like(name, _PATTERNS[word].format(re.sub(r"([%_\\])", r"\\\1", str(value))))
    if word == "in":
        return Among(name, tuple(_value(one) for one in value))
    return Compare(name, OPERATORS[_NAMED.get(word, word)], _value(value))


def _of_cql2(query: Mapping[str, Any]) -> Condition:
    op, arguments = str(query["op"]).lower(), list(query["args"])
    if op in ("and", "or"):
        parts = tuple(_of_cql2(part) for part in arguments)
        return Both(parts) if op == "and" else Either(parts)
    if op == "not":
        return Not(_of_cql2(arguments[0]))
    if op == "circle":
        return Circle(*(float(number) for number in arguments))
    return _comparison(op, arguments)


def _comparison(op: str, arguments: list[Any]) -> Condition:
    """Return a comparison of CQL2-JSON."""
    if not isinstance(arguments[0], dict) or "property" not in arguments[0]:
        return Compare(_property(arguments[1]), FLIPPED[OPERATORS[op]], _value(arguments[0]))
    name = _property(arguments[0])
    if op == "isnull":
        return Missing(name)
    if op == "between":
        low, high = (
            Compare(name, sign, _value(one)) for sign, one in zip((">=", "<="), arguments[1:], strict=True)
        )
        return Both((low, high))
    if op == "in":
        return Among(name, tuple(_value(one) for one in arguments[1]))
    if op == "like":
        return Like(name, str(arguments[1]))
    return Compare(name, OPERATORS[op], _value(arguments[1]))


def _property(argument: Mapping[str, Any]) -> str:
    return str(argument["property"]).removeprefix("properties.")


def _value(value: Any) -> Value:
    if isinstance(value, dict) and len(value) == 1:  # {"timestamp": "2020-02-01T00:00:00Z"}
        value = next(iter(value.values()))
    if isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    raise TypeError(f"{value!r} cannot be compared with")
