"""Plots of explorers, as widgets of plotly: they work in dashboards, where no kernel draws them anew."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Plot", "bars", "line"]

_HEIGHT = 260
_MARGIN = {"l": 60, "r": 20, "t": 36, "b": 44}


class Plot(widgets.VBox):  # type: ignore[misc]
    """A place for a plot; until there is one, it says how something comes in.

    Plotly takes longer to load than all else of an explorer, and many look at a map without ever plotting: it is loaded
    with the first plot.

    Parameters
    ----------
    hint
        What to do, for a person.
    """

    def __init__(self, hint: str) -> None:
        said = f"<p style='opacity:0.7;margin:8px 0'>{html.escape(hint)}</p>"
        super().__init__([widgets.HTML(said)], layout=widgets.Layout(width="100%"))
        self.figure: Any = None

    @property
    def data(self) -> tuple[Any, ...]:
        """The lines or bars that are shown."""
        return () if self.figure is None else tuple(self.figure.data)

    def show(self, title: str, traces: Sequence[dict[str, Any]], *, x: str, y: str, **layout: Any) -> None:
        """Put lines or bars in, instead of what was there.

        Parameters
        ----------
        title
            Of the plot.
        traces
            Of `line` and `bars`.
        x, y
            What the axes show, with units.
        **layout
            Anything else of plotly's layout.
        """
        import plotly.graph_objects as go

        # All at once: what is changed before a figure is shown never reaches the page.
        figure = go.FigureWidget(
            data=list(traces),
            layout={
                "title": {"text": title, "font": {"size": 13}},
                "height": _HEIGHT,
                "margin": _MARGIN,
                "template": "plotly_white",
                "barmode": "group",
                "xaxis_title": x,
                "yaxis_title": y,
                **layout,
            },
        )
        # A figure opens in the page before it has anything to show; told again, it has it when it is drawn.
        figure.send_state()
        old, self.figure = self.figure, figure
        self.children = (figure,)
        if old is not None:
            old.close()


def line(name: str, x: Iterable[Any], y: Iterable[Any], *, points: bool = True) -> dict[str, Any]:
    """Return a line of a plot."""
    mode = "lines+markers" if points else "lines"
    return {"type": "scatter", "x": list(x), "y": list(y), "name": name, "mode": mode, "showlegend": True}


def bars(
    name: str, x: Iterable[Any], y: Iterable[Any], errors: Iterable[Any] | None = None
) -> dict[str, Any]:
    """Return bars of a plot; `errors` are drawn as whiskers."""
    made: dict[str, Any] = {"type": "bar", "x": list(x), "y": list(y), "name": name}
    if errors is not None:
        made["error_y"] = {"type": "data", "array": list(errors), "visible": True}
    return made
