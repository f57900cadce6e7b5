"""Notebooks as pages without code, by Voilà, at ``{base}voila/render/PATH``.

Voilà takes a second to load, which no session shall pay for that shows no dashboard: its addresses are added to the
Jupyter server when the first of them is asked for.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_core.paths import jupyter_path
from jupyter_server.base.handlers import JupyterHandler
from tornado import web
from tornado.routing import PathMatches, Rule
from typing_extensions import override

from cupola.exceptions import NotFoundError

if TYPE_CHECKING:
    from tornado.httputil import HTTPServerRequest

__all__ = ["LoadVoila", "handlers"]

TEMPLATE = "cupola"
"""In ``environments/lab/share``."""


class _UntilLoaded(PathMatches):
    """Matches Voilà's addresses as long as Voilà itself does not answer them."""

    loaded = False

    @override
    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        """Return nothing once Voilà is there: the next rule is asked then."""
        return None if self.loaded else super().match(request)


class LoadVoila(JupyterHandler):
    """Loads Voilà, and sends whoever asked to the same address again."""

    @override
    def initialize(self, matcher: _UntilLoaded) -> None:
        """Take the rule that led here."""
        self._matcher = matcher

    @override
    @web.authenticated
    def get(self, *_: str) -> None:
        """Answer the first request for a dashboard."""
        try:
            from voila import server_extension
        except ImportError as error:
            text = "Voilà is not installed in this version of the Lab: choose another version to show dashboards."
            raise web.HTTPError(NotFoundError.status, text) from error
        server = self.serverapp
        if server is None:
            raise web.HTTPError(NotFoundError.status, "There is no Jupyter server around this page.")
        if not self._matcher.loaded:
            # Voilà's own page asks other machines for icons that the widgets bring along.
            server.config.VoilaConfiguration.template = _template()
            server.config.VoilaConfiguration.page_config_hook = _own_formulas
            server_extension._load_jupyter_server_extension(server)  # noqa: SLF001 - what Jupyter itself calls
            self._matcher.loaded = True
        self.redirect(self.request.uri or self.base_url)


def _own_formulas(current_page_config: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Return the page's configuration without the public server of formulas: Voilà then takes the one it brings along."""
    return {**current_page_config, "fullMathjaxUrl": None, "mathjaxConfig": None}


def _template() -> str:
    """Return the name of the page's template: ours where it is installed."""
    places = (Path(folder, "voila", "templates", TEMPLATE) for folder in jupyter_path())
    return TEMPLATE if any(place.is_dir() for place in places) else "lab"


def handlers(base_url: str) -> list[Any]:
    """Return our address, which stands for all of Voilà's until it is loaded."""
    matcher = _UntilLoaded(rf"{re.escape(base_url)}voila(?:/.*)?")
    return [Rule(matcher, LoadVoila, {"matcher": matcher})]
