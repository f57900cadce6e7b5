"""The live panel of a job in a notebook: a widget that asks the Jupyter server, so it lives while the kernel is busy."""

from __future__ import annotations

import os
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets
from ipywidgets import VBox

from cupola.exceptions import CupolaError
from cupola.models.job import JobAction

if TYPE_CHECKING:
    from pathlib import Path

    from cupola.models.job import Job

__all__ = ["Panel", "panel"]


@cache
def _text(*names: str) -> str:
    """Return files that a browser gets as one: a widget has one script and one style."""
    folder = files("cupola.lab.jobs").joinpath("static")
    return "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)


class Panel(anywidget.AnyWidget):
    """Shows one job; all it needs from the kernel it gets at its start."""

    _esm = _text("taskgrid.js", "panel.js")
    _css = _text("taskgrid.css", "panel.css")

    base = traitlets.Unicode("/").tag(sync=True)
    """Path of the Jupyter server, which passes the panel's questions on to the portal."""
    job = traitlets.Dict().tag(sync=True)
    """The job as it was when the panel was made."""
    meanings = traitlets.Dict({str(action): action.meaning for action in JobAction}).tag(sync=True)
    """What each button does, in a sentence."""
    map_told = traitlets.Unicode("").tag(sync=True)
    """What came of the wish to see the products on a map."""


def panel(job: Job) -> VBox:
    """Return a panel for a job, and below it room for a map of its products."""
    base = os.environ.get("CUPOLA_BASE_URL") or os.environ.get("JUPYTERHUB_SERVICE_PREFIX") or "/"
    made = Panel(base=base if base.endswith("/") else f"{base}/", job=job.model_dump(mode="json"))
    box = VBox([made])

    def asked(_widget: Panel, content: Any, _buffers: Any) -> None:
        if job.products is not None and content == {"show": "map"}:
            _show_map(made, box, job.products)

    made.on_msg(asked)
    return box


def _show_map(shown: Panel, box: VBox, products: Path) -> None:
    """Put a map of the products below the panel; it draws what is added to their folder by itself."""
    from cupola.lab import collections
    from cupola.lab.maps import Map

    if len(box.children) > 1:
        # Another change, so that the note about the kernel goes away also the second time.
        shown.map_told = "" if shown.map_told else "The map is below."
        return
    try:
        made = Map().add(collections.open(products))
    except (CupolaError, OSError) as error:
        shown.map_told = f"No map yet: {error}"
        return
    box.children = (shown, made)
    shown.map_told = "The map is below; new products come by themselves."
