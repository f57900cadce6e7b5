"""The hub's authenticator: the owner's link and all configured methods, on one page.

Each method proves who somebody is; `Admission` decides whether they may come in, for all of them alike.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from jupyterhub.auth import Authenticator
from traitlets import Any as AnyTrait
from typing_extensions import override

from cupola.config import load
from cupola.exceptions import CupolaError, NotAllowedError
from cupola.hub.links import Links
from cupola.hub.signin.admission import Admission, Standing
from cupola.hub.signin.guard import Guard
from cupola.hub.signin.local import LocalMethod
from cupola.hub.signin.methods import make_method
from cupola.hub.signin.names import LINK, is_name

if TYPE_CHECKING:
    from jupyterhub.handlers.base import BaseHandler
    from jupyterhub.user import User

    from cupola.config import Config
    from cupola.hub.signin.methods import Method

__all__ = ["CALLBACK", "SignInAuthenticator"]

log = logging.getLogger("JupyterHub.sign-in")

CALLBACK = "callback"


class SignInAuthenticator(Authenticator):  # type: ignore[misc]
    """Lets in whoever may come in, by whichever method they show who they are."""

    settings = AnyTrait(help="The platform's configuration.", config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        config: Config = self.settings or load()
        self.platform = config
        self.admission = Admission(config)
        self.admission.prepare()
        self.links = Links(config.paths.links)
        self.methods: dict[str, Method] = {
            method.known_as: make_method(
                method, f"{config.address}/hub/sign-in/{method.known_as}/{CALLBACK}", self
            )
            for method in config.sign_in.methods
        }
        self.guard: Guard | None = None

    @property
    def local(self) -> LocalMethod | None:
        """The accounts of this platform, where it has such."""
        return next((method for method in self.methods.values() if isinstance(method, LocalMethod)), None)

    @override
    async def authenticate(self, handler: BaseHandler, data: dict[str, str]) -> dict[str, Any] | None:
        """Find out who came and whether they may come in; errors go to the page."""
        if data.get("method") == LINK:
            name = self.links.use(data.get("token", ""))
            entrance = self.admission.enter_by_link(name) if name else None
        else:
            method = self.methods.get(data.get("method", ""))
            proof = await method.prove(handler, data) if method else None
            entrance = self.admission.enter(proof) if proof else None
        return {"name": entrance.name, "admin": entrance.admin} if entrance else None

    @override
    def check_allowed(self, username: str, authentication: dict[str, Any] | None = None) -> bool:
        # All has been decided in `authenticate`; this is the hub's own second look.
        return self.admission.standing(self.admission.people.find(username)) is Standing.INSIDE

    @override
    def normalize_username(self, username: str) -> str:
        return username  # it is in its one form already, and whatever is not is no name

    @override
    def validate_username(self, username: str) -> bool:
        return is_name(username)

    @override
    def check_allow_config(self) -> None:
        """Say nothing: who is let in stands in our own configuration."""

    @override
    async def refresh_user(self, user: User, handler: BaseHandler | None = None) -> bool | dict[str, Any]:
        """Look again whether somebody may be in: a cookie or token of who may not opens nothing from now on."""
        try:
            known = self.admission.people.find(user.name)
            if self.admission.standing(known) is not Standing.INSIDE or known is None:
                return False
            admin = self.admission.admin(known)
        except CupolaError:
            # The disk of the list is gone: nobody can be told from anybody else.
            log.exception("nobody can be looked up")
            return False
        return True if admin == user.admin else {"name": user.name, "admin": admin}

    @override
    def get_handlers(self, app: Any) -> list[Any]:
        from cupola.hub.signin import api, handlers

        self.guard = Guard(app, self)
        self.guard.start()
        return [*handlers.routes(self), *api.ROUTES]

    def remote_error(self, error: Exception, title: str) -> NotAllowedError:
        """Return a sentence for an error of a provider; the log has the rest."""
        log.warning("sign-in with %s failed: %s", title, error)
        return NotAllowedError(f"{title} did not confirm who you are: begin the sign-in again.")
