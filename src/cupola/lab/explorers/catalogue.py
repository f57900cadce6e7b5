"""The explorer of collections: all that this session's volumes hold, where it lies and how it looks."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from cupola.exceptions import CupolaError
from cupola.lab import collections
from cupola.lab.bodies import EARTH, SKY
from cupola.lab.explorers.base import Explorer
from cupola.lab.explorers.footprints import LINES, MOST, footprints
from cupola.lab.maps import Map
from cupola.lab.sky.skymap import SkyMap

if TYPE_CHECKING:
    from cupola.lab.collections import Collection

__all__ = ["CollectionExplorer"]

ANY = "any"


class CollectionExplorer(Explorer):
    """All collections in the volumes of this session: find one, see where and when it is, and look at it."""

    title = "Collections"

    def __init__(self) -> None:
        super().__init__()
        self.infos = {info.name: info for info in collections.known()}
        bodies = sorted({info.body for info in self.infos.values() if info.body})
        self.words = self.control(
            widgets.Text, "Find", placeholder="name, title or band", continuous_update=True
        )
        self.body = self.control(widgets.Dropdown, "Body", options=[ANY, *bodies])
        self.names = widgets.Select(options=[], rows=8, layout=widgets.Layout(width="98%"))
        self.names.add_class("cupola-collections")
        self.span = self.control(
            widgets.Text, "When", placeholder="2026-04, 2026-04-01/..", continuous_update=False
        )
        self.condition = self.control(
            widgets.Text, "Where", placeholder="eo:cloud_cover < 20", continuous_update=False
        )
        self.preview = self.control(widgets.Checkbox, "show the images", value=True, indent=False)
        self.details = widgets.HTML()
        self.place = widgets.VBox(layout=widgets.Layout(width="100%"))
        self.map: Any = None
        self.watch(self._list, self.words, self.body)
        self.watch(self._show, self.names, self.span, self.condition, self.preview)
        self.arrange(
            [self.words, self.body, self.names, self.span, self.condition, self.preview],
            self.place,
            self.details,
        )
        self.guarded(self._list)()

    def _list(self) -> None:
        """List the collections that fit what is asked for."""
        wanted = self.words.value.casefold().split()
        found = [
            info.name
            for info in self.infos.values()
            if self.body.value in (ANY, info.body)
            and all(word in f"{info.name} {info.title} {' '.join(info.bands)}".casefold() for word in wanted)
        ]
        before = self.names.value
        with self.quiet():
            self.names.options = found
            self.names.value = before if before in found else (found[0] if found else None)
        if not found:
            self.place.children = ()
            self.details.value = ""
            self.tell(
                "No collection fits: take a word away."
                if self.infos
                else "This session's volumes hold no collections: choose a volume when you start a session."
            )
            return
        self._show()

    @property
    def collection(self) -> Collection | None:
        """The chosen collection, filtered, to go on with in a notebook."""
        if self.names.value is None:
            return None
        chosen = collections.open(self.names.value)
        if self.span.value.strip() or self.condition.value.strip():
            chosen = chosen.filter(
                datetime=self.span.value.strip() or None, query=self.condition.value.strip() or None
            )
        return chosen

    @property
    def code(self) -> str:
        """The line that opens the chosen collection."""
        parts = [repr(self.names.value)]
        if self.span.value.strip():
            parts.append(f"datetime={self.span.value.strip()!r}")
        if self.condition.value.strip():
            parts.append(f"query={self.condition.value.strip()!r}")
        return f"cupola.open({', '.join(parts)})"

    def _show(self) -> None:
        """Show the chosen collection on a map of its own: another one may be of another body."""
        chosen = self.collection
        if chosen is None:
            return
        old, self.map = self.map, None
        try:
            self.map = _shown(chosen, images=self.preview.value)
            self.place.children = (self.map,)
        except CupolaError as error:
            self.place.children = (widgets.HTML(f"<p>{html.escape(str(error))}</p>"),)
        if old is not None:
            old.close()
        self.details.value = f"<pre>{html.escape(self.code)}</pre>{chosen._repr_html_()}"
        outlined = f", {MOST} outlines of them" if len(chosen) > MOST else ""
        self.tell(f"{chosen.title or chosen.id}: {len(chosen):,} items{outlined}")


def _shown(chosen: Collection, *, images: bool) -> Map | SkyMap:
    """Return a map of the collection's body with its images and their outlines."""
    body = chosen.body
    if body is not None and body.name == SKY.name:
        sky = SkyMap(height="480px")
        return sky.add(chosen, name="Images", scale="asinh", cmap="gray") if images and len(chosen) else sky
    basemap = "land" if body is not None and body.name == EARTH.name else None
    view = Map(height="480px", body=None if body is None else body.name, basemap=basemap)
    if images and len(chosen):
        view.add(chosen, name="Images")
    if body is not None:
        view.add(footprints(chosen), name="Outlines", style=LINES)
    return view
