"""Where a browser may be sent after signing in: the one function that decides it, for the hub and the portal."""

from __future__ import annotations

import re
from urllib.parse import unquote

__all__ = ["LONGEST", "safe_path"]

LONGEST = 2000
"""In characters."""
_PATH = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@%/]*(\?[A-Za-z0-9\-._~!$&'()*+,;=:@%/?]*)?")
_AWAY = re.compile(r"\.\.|//|[\x00-\x1f\x7f\\]")
"""A browser resolves ``..``, reads ``//`` and backslashes as the beginning of a host, and leaves tabs and lines out."""
_BROKEN = re.compile(r"%(?![0-9A-Fa-f]{2})")
_MOST_DECODINGS = 3


def safe_path(path: str, prefix: str = "/") -> str | None:
    """Return `path` if it is a page below `prefix` on our own address, else nothing.

    Parameters
    ----------
    path
        What came with a request; anything may stand in it.
    prefix
        Begins and ends with a slash.
    """
    if (
        not path.startswith(prefix)
        or len(path) > LONGEST
        or _PATH.fullmatch(path) is None
        or _BROKEN.search(path)
    ):
        return None
    # A server on the way may decode once more than the one before it.
    place, query = path.partition("?")[0], path.partition("?")[2]
    for _ in range(_MOST_DECODINGS):
        if _AWAY.search(place):
            return None
        place = unquote(place, errors="replace")
    return None if _AWAY.search(place) or ".." in query or "//" in query else path
