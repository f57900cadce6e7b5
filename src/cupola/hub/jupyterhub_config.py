"""What ``jupyterhub -f`` reads; the content lies in ``settings.py``, where it is checked and tested like other code."""

from __future__ import annotations

from cupola.config import load
from cupola.config.database import postgresql_address
from cupola.hub.drivers.frozen import forget_stale
from cupola.hub.outages import answer_unavailable
from cupola.hub.settings import configure

_config = load()
forget_stale(_config.paths.frozen)
configure(get_config(), _config)  # type: ignore[name-defined]  # noqa: F821 - traitlets puts it there
if postgresql_address(_config):
    answer_unavailable()
