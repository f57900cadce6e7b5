"""All settings as plain descriptions: for the file that ``cupola init`` writes and for the reference in the docs."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from pydantic_core import PydanticUndefined

from cupola.config.base import Settings
from cupola.config.root import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

__all__ = ["Setting", "expects", "group_of", "holds_list", "settings"]


@dataclass(frozen=True)
class Setting:
    """One key of ``cupola.yaml``."""

    key: str
    """The way to it: ``server.port``; ``volumes[].name`` in the entries of a list."""
    title: str
    description: str
    expects: str = ""
    """What it takes, for people."""
    example: Any = None
    default: Any = None
    """The default, where it is the same on every machine."""
    default_text: str = ""
    """The default in words, where it is found out."""
    required: bool = False
    several: bool = False
    """Whether it is a list of groups."""
    below: list[Setting] = field(default_factory=list)
    """The settings of the group."""

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition(".")[2]

    def walk(self) -> Iterator[Setting]:
        """Yield this and all below it."""
        yield self
        for entry in self.below:
            yield from entry.walk()


def settings(group: type[Settings] = Config, prefix: str = "") -> list[Setting]:
    """Return the settings of `group`, in the order of the file; their keys start with `prefix`."""
    return [_setting(name, info, prefix) for name, info in group.model_fields.items()]


def _setting(name: str, info: FieldInfo, prefix: str) -> Setting:
    below = group_of(info)
    several = holds_list(info)
    inner = f"{prefix}{name}[]." if several else f"{prefix}{name}."
    has_default = info.default is not PydanticUndefined
    return Setting(
        key=prefix + name,
        title=info.title or "",
        description=info.description or "",
        expects=expects(info),
        example=info.examples[0] if info.examples else None,
        default=info.default if has_default else None,
        default_text=_extra(info, "default"),
        required=info.is_required(),
        several=several,
        below=settings(below, inner) if below else [],
    )


def expects(info: FieldInfo) -> str:
    """Return what a field takes, for people."""
    return _extra(info, "expects")


def _extra(info: FieldInfo, name: str) -> str:
    extra = info.json_schema_extra
    return str(extra.get(name, "")) if isinstance(extra, dict) else ""


def group_of(info: FieldInfo) -> type[Settings] | None:
    """Return the group of settings that a field holds, or holds a list of."""
    return next((kind for kind in _kinds(info.annotation) if issubclass(kind, Settings)), None)


def holds_list(info: FieldInfo) -> bool:
    """Return whether a field is a list."""
    return get_origin(info.annotation) is list


def _kinds(annotation: Any) -> Iterator[type]:
    """Yield the classes that an annotation names."""
    if get_origin(annotation) in {Annotated, Union, UnionType, list}:
        for part in get_args(annotation):
            yield from _kinds(part)
    elif isinstance(annotation, type):
        yield annotation
