"""Where a browser may be sent after signing in: the one function that decides it, for the hub and the portal."""

from __future__ import annotations

import re

__all__ = ["LONGEST", "safe_path"]

LONGEST = 2000
"""In characters."""
_PATH = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@%/]*(\?[A-Za-z0-9\-._~!$&'()*+,;=:@%/?]*)?")
_BROKEN = re.compile(r"%(?![0-9A-Fa-f]{2})")


def safe_path(path: str, prefix: str = "/") -> str | None:
    """Return `path` if it is a page below `prefix` on our own address, else nothing.

    Parameters
    ----------
    path
        What came with a request; anything may stand in it.
    prefix
        Begins and ends with a slash.
    """
    if not path.startswith(prefix) or len(path) > LONGEST or _PATH.fullmatch(path) is None:
        return None
    # A browser resolves `..` and reads `//` as the beginning of a host; and so may servers that decode these.
    decoded = re.sub(
        r"%(2e|2f|5c)",
        lambda found: bytes.fromhex(found[1]).decode(),
        path.partition("?")[0],
        flags=re.IGNORECASE,
    )
    if (
        ".." in path
        or "//" in path
        or ".." in decoded
        or "//" in decoded
        or "\\" in decoded
        or _BROKEN.search(path)
    ):
        return None
    return path
