"""What a version holds, without running anything in it."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from cupola.models.packages import Contents

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["of_environment", "of_image"]

_INSTALLED = re.compile(r"(?P<name>[^-]+)-(?P<release>[^-]+)\.dist-info")
_DEBIANS_PYTHON = re.compile(r"python(3\.\d+)")


def of_environment(python: Path) -> Contents | None:
    """Return what the environment of an interpreter holds, by the names of its folders; nothing where they do not tell.

    Parameters
    ----------
    python
        The interpreter, ``ENVIRONMENT/bin/python``.
    """
    for folder in sorted((python.parent.parent / "lib").glob("python3.*")):
        found = (_INSTALLED.fullmatch(path.name) for path in (folder / "site-packages").glob("*.dist-info"))
        packages = {_normalised(one["name"]): one["release"] for one in found if one is not None}
        return Contents(python=folder.name.removeprefix("python"), packages=packages) if packages else None
    return None


@lru_cache(maxsize=32)  # a version never changes, and its list has a megabyte
def of_image(listing: Path) -> Contents | None:
    """Return what an image holds, as the list says that was made with it; nothing where there is none.

    Parameters
    ----------
    listing
        An SPDX document.
    """
    try:
        told = json.loads(listing.read_bytes())["packages"]
    except (OSError, ValueError, KeyError):
        return None
    pythons = [found[1] for one in told if (found := _DEBIANS_PYTHON.fullmatch(one["name"]))]
    packages = {
        _normalised(one["name"]): one["versionInfo"]
        for one in told
        if any(ref["referenceLocator"].startswith("pkg:pypi/") for ref in one.get("externalRefs", ()))
    }
    return Contents(python=pythons[0] if len(pythons) == 1 else None, packages=packages)


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
