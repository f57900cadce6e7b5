"""The volumes of this session."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from cupola.exceptions import InputError

if TYPE_CHECKING:
    from cupola.models.volume import Mount

__all__ = ["mounts"]


def mounts() -> list[Mount]:
    """Return the volumes of this session.

    Raises
    ------
    InputError
        When ``CUPOLA_VOLUMES`` is broken.
    """
    text = os.environ.get("CUPOLA_VOLUMES", "").strip()
    if not text:
        return []
    from pydantic import TypeAdapter, ValidationError

    from cupola.models.volume import Mount

    try:
        return TypeAdapter(list[Mount]).validate_python(json.loads(text))
    except (ValueError, ValidationError) as error:
        raise InputError("The environment variable CUPOLA_VOLUMES is no list of volumes.") from error
