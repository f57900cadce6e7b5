"""What ``jupyterhub -f`` reads; the content lies in ``settings.py``, where it is checked and tested like other code."""

from __future__ import annotations

from cupola.config import load
from cupola.config.database import postgresql_address
from cupola.hub.outages import answer_unavailable
from cupola.hub.settings import configure

_config = load()
configure(get_config(), _config)  # type: ignore[name-defined]  # noqa: F821 - traitlets puts it there
if postgresql_address(_config):
    answer_unavailable()
