"""Reading YAML so that every key and value knows its line.

Only what JSON can say is taken, with the spelling of YAML 1.2: ``no`` is a word and no boolean, ``012`` and ``2026-01-01``
are words and no number and no date.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

__all__ = ["Document", "Finding", "Loc", "parse"]

Loc = tuple[int | str, ...]
"""The way to a value: keys and positions, as pydantic tells it."""


@dataclass(frozen=True)
class Finding:
    """Something wrong in a line."""

    line: int | None
    text: str


@dataclass
class Document:
    """The content of a file, and where each part of it stands."""

    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[Loc, int] = field(default_factory=dict)
    """The line, counted from 1, of each key (or of each entry of a list)."""
    findings: list[Finding] = field(default_factory=list)

    def line(self, loc: Loc) -> int | None:
        """Return the line of `loc`, or of the nearest thing around it that stands in the file."""
        for end in range(len(loc), 0, -1):
            if loc[:end] in self.lines:
                return self.lines[loc[:end]]
        return None


class _Loader(yaml.SafeLoader):
    """Knows the scalars of JSON only."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - as in the base class


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


class _Walk:
    """Turns the nodes of a file into data, and notes lines and findings."""

    def __init__(self) -> None:
        self.document = Document()
        self._above: list[yaml.Node] = []
        self._values = yaml.constructor.SafeConstructor()

    def value(self, node: yaml.Node, loc: Loc) -> Any:
        """Return the value of `node`, which stands at `loc`."""
        if node in self._above:
            self._find(node, "an alias must not contain itself")
            return None
        self._above.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, loc)
            if isinstance(node, yaml.SequenceNode):
                return self._sequence(node, loc)
            return self._scalar(node)
        finally:
            self._above.pop()

    def _mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._find(key_node, "a key must be a plain word")
                continue
            key: str = key_node.value
            here = (*loc, key)
            if key in result:
                self._find(key_node, f'the key "{key}" was given before, in line {self.document.lines[here]}')
                continue
            self.document.lines[here] = _line(key_node)
            result[key] = self.value(value_node, here)
        return result

    def _sequence(self, node: yaml.SequenceNode, loc: Loc) -> list[Any]:
        result = []
        for number, entry in enumerate(node.value):
            self.document.lines[*loc, number] = _line(entry)
            result.append(self.value(entry, (*loc, number)))
        return result

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            return self._values.construct_object(node)
        except (yaml.YAMLError, ValueError) as exc:
            reason = exc.problem if isinstance(exc, yaml.MarkedYAMLError) else str(exc)
            self._find(node, f"this value cannot be read: {reason}")
            return None

    def _find(self, node: yaml.Node, text: str) -> None:
        self.document.findings.append(Finding(_line(node), text))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def parse(text: str) -> Document:
    """Read `text`; whatever is wrong is told in the document's findings."""
    walk = _Walk()
    try:
        root = yaml.compose(text, Loader=_Loader)
        if root is None:
            return walk.document
        data = walk.value(root, ())
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else None
        return Document(findings=[Finding(line, f"this is no valid YAML: {exc.problem or exc.context}")])
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        return Document(
            findings=[Finding(line, f"there is a character that YAML does not allow: {exc.reason}")]
        )
    except RecursionError:
        return Document(findings=[Finding(None, "it is nested too deeply to be a configuration")])
    if isinstance(data, dict):
        walk.document.data = data
    elif data is not None:
        walk.document.findings.append(
            Finding(_line(root), 'settings are expected here, such as "title: Cupola"')
        )
    return walk.document
