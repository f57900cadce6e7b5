"""What a session's server can do without of what its libraries load where they find it."""

from __future__ import annotations

import sys

__all__ = ["leave_out"]

UNUSED = ("httpx._main", "mako.ext.pygmentplugin", "rfc3987_syntax")
"""The command line of httpx and the colours of mako's error pages, with rich and pygments, and jsonschema's grammar for
``format: iri``, which no schema of Jupyter's asks for: a sixth of a server's memory. All are imported by libraries that
expect them to be missing."""


def leave_out() -> None:
    """Keep those from being loaded into this process. Kernels and terminals are processes of their own and have them."""
    for name in UNUSED:
        # Python's own way of saying that there is no such module.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
