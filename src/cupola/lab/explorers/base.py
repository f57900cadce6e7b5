"""What explorers have in common: controls beside a map, plots below, and a line that says what happened."""

from __future__ import annotations

import html
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from cupola.exceptions import CupolaError
from cupola.lab.collections import Collection
from cupola.lab.collections import open as open_collection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Explorer", "as_collection"]

_CONTROLS = "300px"
_LABEL = {"description_width": "92px"}


def as_collection(thing: Collection | str) -> Collection:
    """Return a collection by its name or path, or as it is.

    Raises
    ------
    NotFoundError
        When there is none of that name.
    """
    return thing if isinstance(thing, Collection) else open_collection(thing)


class Explorer(widgets.VBox):  # type: ignore[misc]
    """Controls beside a map, plots below, and a line that says what happened.

    Subclasses make their controls with `control`, hang their actions on them with `guarded`, and call `arrange` at
    the end of their beginning.
    """

    title = "Explorer"

    def __init__(self) -> None:
        super().__init__(layout=widgets.Layout(width="100%"))
        self.add_class("cupola-explorer")
        self._head = widgets.HTML(f"<h3 style='margin:4px 0'>{html.escape(self.title)}</h3>")
        self._line = widgets.HTML()
        self._line.add_class("cupola-explorer-line")
        self._quiet = 0

    def arrange(self, controls: Sequence[Any], content: Any, *below: Any) -> None:
        """Put controls at the left, `content` (a map) at the right, and plots and tables below."""
        left = widgets.VBox(
            [*controls], layout=widgets.Layout(width=_CONTROLS, min_width=_CONTROLS, padding="0 12px 0 0")
        )
        right = widgets.VBox([content], layout=widgets.Layout(flex="1 1 auto", min_width="320px"))
        self.children = (
            self._head,
            widgets.HBox([left, right], layout=widgets.Layout(width="100%", flex_flow="row wrap")),
            self._line,
            *below,
        )

    @staticmethod
    def control(kind: type[Any], label: str, **options: Any) -> Any:
        """Return a control of the width that all have."""
        return kind(description=label, style=_LABEL, layout=widgets.Layout(width="98%"), **options)

    @staticmethod
    def button(label: str, tip: str, action: Callable[[], None], **options: Any) -> Any:
        """Return a button that does something."""
        made = widgets.Button(description=label, tooltip=tip, layout=widgets.Layout(width="98%"), **options)
        made.on_click(lambda _: action())
        return made

    def guarded(self, action: Callable[[], None]) -> Callable[..., None]:
        """Return a handler of events that does `action` and says in one sentence what is wrong with it.

        What a widget's handler raises is lost to people who look at a page without a notebook.
        """

        @wraps(action)
        def handle(*_: Any) -> None:
            if self._quiet:
                return
            try:
                action()
            except CupolaError as error:
                self.tell(str(error), wrong=True)
            except Exception as error:
                # Whoever sees a dashboard sees no log; whoever reads the log wants to know where it was.
                self.tell(f"This did not work, which is a fault of the explorer: {error!r}.", wrong=True)
                raise

        return handle

    def watch(self, action: Callable[[], None], *controls: Any) -> None:
        """Do `action` whenever the value of one of the controls changes."""
        handle = self.guarded(action)
        for one in controls:
            one.observe(handle, names="value")

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Change several controls without doing anything in between."""
        self._quiet += 1
        try:
            yield
        finally:
            self._quiet -= 1

    def tell(self, text: str, *, wrong: bool = False) -> None:
        """Say something on the line below the map; nothing takes away what was said."""
        colour = "var(--jp-error-color1, #b00020)" if wrong else "inherit"
        role = "alert" if wrong else "status"
        said = f"<span role='{role}' style='color:{colour}'>{html.escape(text)}</span>"
        self._line.value = said if text else ""

    @property
    def said(self) -> str:
        """What the line below the map says, as HTML."""
        return str(self._line.value)
