"""An administrator's own class as a sign-in method."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from cupola.exceptions import ConfigError
from cupola.hub.signin.admission import Proof
from cupola.hub.signin.names import Identity

if TYPE_CHECKING:
    from jupyterhub.auth import Authenticator
    from jupyterhub.handlers.base import BaseHandler

    from cupola.config import MethodSettings

__all__ = ["CustomMethod", "load_class", "make_custom"]


class CustomMethod:
    """An administrator's own class: a form for name and password, or a page of a provider where it speaks OAuth."""

    wants_nonce = False
    sign_out_address = ""

    def __init__(self, settings: MethodSettings, protocol: Authenticator) -> None:
        self.settings = settings
        self.protocol = protocol

    async def ready(self) -> None:
        """Do nothing: the class knows."""

    def check_issuer(self, named: str) -> None:
        """Do nothing: the class knows."""

    async def prove(self, handler: BaseHandler, data: dict[str, str]) -> Proof | None:
        """Find out who came, as the hub itself would with this class alone."""
        model = await self.protocol.get_authenticated_user(handler, data)
        if model is None:
            return None
        identity = Identity(
            self.settings.known_as, self.settings.authenticator or "", model["name"], model["name"]
        )
        return Proof(identity, rule="class", admin=model.get("admin"))


def load_class(settings: MethodSettings) -> Any:
    """Return the class that `settings` name.

    Raises
    ------
    ConfigError
        It cannot be imported, is no Authenticator, or lacks an option.
    """
    from jupyterhub.auth import Authenticator

    module, _, name = str(settings.authenticator).partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as exc:
        raise ConfigError(
            f"the sign-in method {settings.known_as} names {settings.authenticator}, which cannot be imported ({exc}); "
            "install its package where the platform runs"
        ) from exc
    if not inspect.isclass(found) or not issubclass(found, Authenticator):
        raise ConfigError(
            f"{settings.authenticator} is no Authenticator of JupyterHub; name a class that is one"
        )
    made: Any = found
    unknown = sorted(set(settings.options) - set(made.class_traits(config=True)))
    if unknown:
        raise ConfigError(
            f'{settings.authenticator} has no option "{unknown[0]}"; take it out of the options'
        )
    return made


def make_custom(settings: MethodSettings, callback: str, parent: Authenticator) -> CustomMethod:
    """Make the method; `callback` is where a provider sends people back to, if the class has one.

    Raises
    ------
    ConfigError
        The class cannot be used.
    """
    from oauthenticator.oauth2 import OAuthenticator

    made = load_class(settings)
    extra = {"oauth_callback_url": callback} if issubclass(made, OAuthenticator) else {}
    try:
        return CustomMethod(settings, made(parent=parent, **extra, **settings.options))
    except Exception as exc:
        raise ConfigError(f"{settings.authenticator} does not start with these options: {exc}") from exc
