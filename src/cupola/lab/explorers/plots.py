"""Plots of explorers, as widgets of plotly: they work in dashboards, where no kernel draws them anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["bars", "empty", "line", "show_bars", "show_lines"]

_HEIGHT = 260
_MARGIN = {"l": 60, "r": 20, "t": 36, "b": 44}


def empty(title: str) -> Any:
    """Return a plot in which there is nothing yet but its title, which says how something comes in."""
    # All at once: what is changed before a figure is shown never reaches the page.
    return go.FigureWidget(
        layout={
            "title": {"text": title, "font": {"size": 13}},
            "height": _HEIGHT,
            "margin": _MARGIN,
            "template": "plotly_white",
        }
    )


def line(name: str, x: Iterable[Any], y: Iterable[Any], *, points: bool = True) -> Any:
    """Return a line of a plot."""
    return go.Scatter(
        x=list(x), y=list(y), name=name, mode="lines+markers" if points else "lines", showlegend=True
    )


def bars(name: str, x: Iterable[Any], y: Iterable[Any], errors: Iterable[Any] | None = None) -> Any:
    """Return bars of a plot; `errors` are drawn as whiskers."""
    whiskers = None if errors is None else {"type": "data", "array": list(errors), "visible": True}
    return go.Bar(x=list(x), y=list(y), name=name, error_y=whiskers)


def show_lines(figure: Any, title: str, traces: Sequence[Any], *, x: str, y: str) -> None:
    """Put lines into a plot, instead of what was in it."""
    _show(figure, title, traces, x, y)


def show_bars(figure: Any, title: str, traces: Sequence[Any], *, x: str, y: str) -> None:
    """Put groups of bars into a plot, instead of what was in it."""
    _show(figure, title, traces, x, y)
    figure.update_layout(barmode="group")


def _show(figure: Any, title: str, traces: Sequence[Any], x: str, y: str) -> None:
    with figure.batch_update():
        figure.data = []
        for trace in traces:
            figure.add_trace(trace)
        figure.update_layout(title={"text": title}, xaxis={"title": x}, yaxis={"title": y})
