"""One chain on a sky map, as the browser is told of it."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

from cupola.exceptions import BodyError, InputError
from cupola.lab.chains import store
from cupola.lab.chains.graph.scale import At
from cupola.lab.collections.wording import capital
from cupola.lab.tiles.styles import Style, gradient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cupola.lab.chains import Chain
    from cupola.lab.collections import Item

__all__ = ["SkyLayer", "check_sky", "revision", "sources"]

STAMPED = 1000
"""Up to so many items are looked at for changes; in a larger collection only new and missing ones count."""


def sources(chain: Chain) -> list[Any]:
    """Return the collections that a chain starts from."""
    several = getattr(chain, "collections", None)
    return list(several) if several else [chain.collection]


def check_sky(chain: Chain) -> None:
    """Refuse what has no place on the sky.

    Raises
    ------
    BodyError
        The images show a body, or have no celestial coordinates.
    """
    for collection in sources(chain):
        for item in collection.items[:1]:
            if item.body is None:
                raise BodyError(
                    f"{capital(item)} has no celestial coordinates; show it on a cupola.Map(), which has image coordinates."
                )
            if item.body.name != "Sky":
                raise BodyError(
                    f"{capital(item)} shows {item.body.name}; put it on a cupola.Map(), not on a map of the sky."
                )


def revision(items: Sequence[Item]) -> str:
    """Return a short word that changes when items come, go or are written anew."""
    digest = hashlib.sha256()
    for number, item in enumerate(items):
        path = item.path or next((asset.href for asset in item.assets.values()), None)
        stamp = 0
        if number < STAMPED and path:
            try:
                stamp = os.stat(str(path).partition("#")[0]).st_mtime_ns  # noqa: PTH116 - may be an address
            except (OSError, ValueError):
                stamp = 0
        digest.update(f"{item.id}\0{stamp}\n".encode())
    return digest.hexdigest()[:12]


class SkyLayer:
    """A chain on a sky map, and how it is drawn."""

    def __init__(  # noqa: PLR0913 - what a layer is drawn by
        self,
        chain: Chain,
        style: Style,
        *,
        identity: str,
        name: str,
        opacity: float = 1.0,
        unit: str = "",
        exact: bool = False,
    ) -> None:
        if not 0 <= opacity <= 1:
            raise InputError(f"opacity goes from 0 (clear) to 1, not {opacity!r}.")
        self.chain = chain
        self.id = identity
        self.name = name
        self.style = style
        self.opacity = opacity
        self.visible = True
        self.unit = unit
        self.exact = exact
        self.hash = store.save(chain)
        self.revision = ""
        self.look()

    def look(self) -> None:
        """Make the address fit the collections as they are now."""
        items = [item for collection in sources(self.chain) for item in collection.items]
        self.revision = revision(items)

    def take(self, told: dict[str, Any]) -> None:
        """Take over what somebody chose in the browser."""
        self.opacity = float(told["opacity"])
        self.visible = bool(told["visible"])
        self.exact = bool(told.get("exact"))
        style = Style(str(told["cmap"]), tuple(told["vmin"]), tuple(told["vmax"]), str(told["scale"]))
        style.check()
        self.style = style

    def to_json(self) -> dict[str, Any]:
        """Return what the browser needs to know."""
        style = self.style.to_json()
        return {
            **style,
            "id": self.id,
            "name": self.name,
            "hash": self.hash,
            "opacity": self.opacity,
            "visible": self.visible,
            "colours": gradient(self.style.cmap),
            "unit": self.unit,
            "exact": self.exact,
            "halo": self.chain.halo,
            "pinned": max((step.metres for step in self.chain.program.of_kind(At)), default=None),
            "v": self.revision,
        }
