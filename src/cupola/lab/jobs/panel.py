"""The live panel of a job in a notebook: a widget that asks the Jupyter server, so it lives while the kernel is busy."""

from __future__ import annotations

import os
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import anywidget
import traitlets

if TYPE_CHECKING:
    from cupola.models.job import Job

__all__ = ["Panel", "panel"]


@cache
def _text(name: str) -> str:
    return files("cupola.lab.jobs").joinpath("static", name).read_text(encoding="utf-8")


class Panel(anywidget.AnyWidget):
    """Shows one job; all it needs from the kernel it gets at its start."""

    _esm = _text("panel.js")
    _css = _text("panel.css")

    base = traitlets.Unicode("/").tag(sync=True)
    """Path of the Jupyter server, which passes the panel's questions on to the portal."""
    job = traitlets.Dict().tag(sync=True)
    """The job as it was when the panel was made."""


def panel(job: Job) -> Panel:
    """Return a panel for a job."""
    base = os.environ.get("CUPOLA_BASE_URL") or os.environ.get("JUPYTERHUB_SERVICE_PREFIX") or "/"
    return Panel(base=base if base.endswith("/") else f"{base}/", job=job.model_dump(mode="json"))
