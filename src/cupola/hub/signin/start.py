"""What must be right about the sign-in before anything is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cupola.config import MethodKind
from cupola.hub.signin.admission import Admission

if TYPE_CHECKING:
    from cupola.config import Config

__all__ = ["check_sign_in"]


def check_sign_in(config: Config) -> None:
    """Return if the sign-in can start as it is configured.

    Raises
    ------
    ConfigError
        The allow-list is wrong, or an own class cannot be used.
    """
    Admission(config).list.read()
    for method in config.sign_in.methods:
        if method.kind is MethodKind.CUSTOM:
            from cupola.hub.signin.custom import load_class

            load_class(method)
