"""Addresses of parts of files: ``file.fits#SCI,1``, ``file.nc#PRODUCT/qa_value``."""

from __future__ import annotations

import re

__all__ = ["file_of", "join", "split"]

_PART = re.compile(
    r"(?P<file>.*\.(?:nc4?|cdf|h5|hdf5?|he5|zarr|fits?|fts|fz|lbl|xml|img|qub|dat)(?:\.gz)?/?)#(?P<part>[^#]+)",
    re.IGNORECASE,
)


def split(address: str) -> tuple[str, str]:
    """Return the file and the name of its part; an empty name where the whole file is meant."""
    if "#" not in address:
        return address, ""
    match = _PART.fullmatch(address)
    return (match["file"], match["part"]) if match else (address, "")


def file_of(address: str) -> str:
    """Return the file that an address lies in."""
    return split(address)[0]


def join(file: str, part: str) -> str:
    """Return the address of a part."""
    return f"{file}#{part}" if part else file
