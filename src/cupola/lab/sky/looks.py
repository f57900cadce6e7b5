"""How a layer of the sky is drawn, as a part of its address: Aladin appends its own names, so nothing can stand behind."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from cupola.lab.tiles.styles import Style

__all__ = ["DEFAULT_CMAP", "Look"]

DEFAULT_CMAP = "gray"
REVISION = 64


@dataclass(frozen=True)
class Look:
    """How the tiles of a layer are drawn, and which state of the files they show."""

    style: Style
    revision: str = ""
    exact: bool = False
    """Whether each pixel is computed from full resolution."""

    @classmethod
    def parse(cls, text: str) -> Look:
        """Read the part of an address that says it: a query, or ``-`` for nothing.

        Raises
        ------
        InputError
            A limit is no number, or there is no such colour map or scale.
        """
        query = dict(parse_qsl(text)) if text != "-" else {}
        style = Style.parse({"cmap": DEFAULT_CMAP, **query})
        return cls(style, query.get("v", "")[:REVISION], query.get("exact") == "1")

    @property
    def text(self) -> str:
        """The part of an address that says it."""
        query = {"cmap": self.style.cmap}
        for name, limits in (("vmin", self.style.vmin), ("vmax", self.style.vmax)):
            if limits:
                query[name] = ",".join(f"{limit:.9g}" for limit in limits)
        if self.style.scale != "linear":
            query["scale"] = self.style.scale
        if self.exact:
            query["exact"] = "1"
        if self.revision:
            query["v"] = self.revision
        return urlencode(query, safe=",")
