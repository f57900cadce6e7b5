"""How the documentation is built: Sphinx, Markdown by MyST, the reference made from the code."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tools"))

project = "Cupola"
author = "The Cupola developers"
copyright = author
release = version = installed_version("cupola")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
# A job in the notebook and a job of the REST API are both called Job; annotations name them by their short name.
suppress_warnings = ["ref.python"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "Cupola"
html_show_copyright = False

napoleon_google_docstring = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
nitpick_ignore_regex = [
    (r"py:.*", r"(?!cupola\b).*"),  # described elsewhere, and the build must work without a network
    (
        r"py:.*",
        r"cupola\.(.*\._.*|models\.base\.Thing|platform\..*|lab\.(chains\.(graph|methods)|maps\.(looking|vectors)|explorers\.base|tiles\.styles)\..*)",
    ),  # what annotations name of our inside
]


def _leave_out(_app: Sphinx, _what: str, name: str, _object: Any, skip: bool, _options: Any) -> bool | None:
    """Leave out what every pydantic model has."""
    return (
        True if name in {"model_config", "model_fields", "model_computed_fields", "model_post_init"} else skip
    )


def _generate(_app: Sphinx) -> None:
    """Write the generated pages."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    import reference

    reference.write(HERE / "reference" / "generated")


def setup(app: Sphinx) -> None:
    """Register what happens during a build."""
    app.connect("builder-inited", _generate)
    app.connect("autodoc-skip-member", _leave_out)
