"""What ``jupyterhub -f`` reads; the content lies in ``settings.py``, where it is checked and tested like other code."""

from __future__ import annotations

from cupola.config import load
from cupola.hub.settings import configure

configure(get_config(), load())  # type: ignore[name-defined]  # noqa: F821 - traitlets puts it there
