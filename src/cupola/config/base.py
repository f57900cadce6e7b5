"""What all groups of settings share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from cupola.exceptions import ConfigError

__all__ = ["EmptyIsDefault", "Settings", "UserPath", "cores_here", "memory_here"]


class Settings(BaseModel):
    """A group of settings: immutable, strict about types, no unknown keys.

    Each field says what it takes in ``json_schema_extra["expects"]``: errors and the reference repeat it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _empty_is_default(value: Any) -> Any:
    """Take ``server:`` with nothing below it as if it were not there: in a new file all is commented out."""
    return {} if value is None else value


EmptyIsDefault = BeforeValidator(_empty_is_default)
"""Marks a group that may be written with nothing in it."""


def _expand(value: Any) -> Any:
    """Turn the text of a path into one, with ``~`` filled in."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise ValueError("empty path")
    try:
        return Path(value).expanduser()
    except RuntimeError as exc:
        raise ValueError(str(exc)) from exc


UserPath = Annotated[Path, BeforeValidator(_expand)]
"""A path as a person writes it; the loader makes it absolute."""


def cores_here() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def memory_here() -> int:
    """Return this machine's memory in MiB.

    Raises
    ------
    ConfigError
        Where the operating system does not tell.
    """
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (OSError, ValueError) as exc:
        raise ConfigError(
            "this system does not tell how much memory it has; set profile.memory_mib in cupola.yaml"
        ) from exc
