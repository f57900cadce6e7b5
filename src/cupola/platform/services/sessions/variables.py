"""Environment variables that people may give to their sessions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cupola.exceptions import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["check_variables", "why_reserved"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_LONGEST_VALUE = 4096
_LONGEST = 32_768
"""Characters of all of them together: the system refuses to start a program with much more."""
_MOST = 50

_BEGINNINGS = {
    "JUPYTERHUB_": "it is how the session and the hub know each other",
    "JPY_": "it is how the session and the hub know each other",
    "CUPOLA_": "it is how the session and the platform know each other",
    "LD_": "it decides which libraries programs load",
    "PYTHON": "it decides which Python code runs, the session's own server included",
}
_NAMES = {
    "PATH": "it decides which programs run; extend it in a notebook or in ~/.bashrc",
    "HOME": "your home is where the platform mounts it",
    "USER": "it is your name on the platform",
    "LOGNAME": "it is your name on the platform",
}


def why_reserved(name: str) -> str | None:
    """Return why nobody may set the variable `name`; nothing where everybody may."""
    if name in _NAMES:
        return _NAMES[name]
    return next((why for beginning, why in _BEGINNINGS.items() if name[: len(beginning)] == beginning), None)


def check_variables(variables: Mapping[str, str]) -> None:
    """Return if a session may have these variables.

    Raises
    ------
    InputError
        If one is malformed, too long, or the platform's own.
    """
    if len(variables) > _MOST:
        raise InputError(f"A session takes {_MOST} variables at most: put them into a file in your home.")
    for name, value in variables.items():
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{name[:100]!r} is no name of a variable: use letters, digits and underscores, no digit first."
            )
        if why := why_reserved(name):
            raise InputError(f"The variable {name} cannot be set, since {why}: leave it out.")
        if "\0" in value or len(value) > _LONGEST_VALUE:
            raise InputError(
                f"The value of {name} has more than {_LONGEST_VALUE} characters or a null character: "
                "put it into a file in your home."
            )
    if sum(len(name) + len(value) for name, value in variables.items()) > _LONGEST:
        raise InputError(
            f"The variables have more than {_LONGEST} characters together: put some into a file in your home."
        )
