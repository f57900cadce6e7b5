"""Which package servers pip is told to use on this machine, as uv wants to hear it: uv reads no ``pip.conf``."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

__all__ = ["index_settings", "pip_settings"]


@cache
def pip_settings() -> dict[str, str]:
    """Return pip's settings by their last name (``index-url``); nothing where pip is not installed here."""
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        stdin=subprocess.DEVNULL,
        check=False,
        capture_output=True,
        text=True,
    )
    found: dict[str, str] = {}
    for line in asked.stdout.splitlines():  # as in: global.index-url='https://...'
        key, _, value = line.partition("=")
        text = value.strip().strip("'\"").replace("\\n", " ")
        found[key.rpartition(".")[2].strip(":").lower()] = text
    return found


def index_settings() -> dict[str, str]:
    """Return the variables that tell uv where packages come from; what is set in the environment already stays.

    Everything is locked by hash, so it does not matter which of several servers a file comes from.
    """
    settings = pip_settings()
    found = {}
    if url := settings.get("index-url"):
        found["UV_DEFAULT_INDEX"] = url
    if more := settings.get("extra-index-url"):
        found |= {"UV_INDEX": " ".join(more.split()), "UV_INDEX_STRATEGY": "unsafe-best-match"}
    if links := settings.get("find-links"):
        found["UV_FIND_LINKS"] = ",".join(links.split())
    if certificates := settings.get("cert"):
        found["SSL_CERT_FILE"] = certificates
    if hosts := settings.get("trusted-host"):
        found["UV_INSECURE_HOST"] = " ".join(hosts.split())
    return {name: value for name, value in found.items() if name not in os.environ}
