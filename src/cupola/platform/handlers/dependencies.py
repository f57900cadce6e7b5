"""What handlers ask for: who calls, and the services."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Query, Request

from cupola.exceptions import NotAllowedError, NotSignedInError
from cupola.models.person import Person
from cupola.platform.factory import Factory
from cupola.platform.handlers.forgery import check_same_site
from cupola.platform.handlers.front import check_front

__all__ = [
    "Cursor",
    "FactoryIn",
    "Limit",
    "PersonIn",
    "current_person",
    "get_factory",
    "login_token",
]

_KINDS = {"token", "bearer"}
_READING = {"GET", "HEAD", "OPTIONS"}
_BY_SESSIONS = re.compile(
    r"api/(sessions(/[^/]+(/(stop|restart|computing|activity|keep|hibernate|wake))?)?|jobs(/[^/]+(/[^/]+)?)?|volumes(/[^/]+(/measure)?)?)"
)
"""What a session may change in its owner's name."""


def get_factory(request: Request) -> Factory:
    """Return what builds all services."""
    factory: Factory = request.app.state.factory
    return factory


def header_token(request: Request) -> str | None:
    """Return the token of the ``Authorization`` header, if it carries one."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() in _KINDS else None


def login_token(request: Request) -> str | None:
    """Return the token in the browser's cookie, if there is one."""
    return request.cookies.get(get_factory(request).hub_settings.client_id)


async def current_person(request: Request, factory: Annotated[Factory, Depends(get_factory)]) -> Person:
    """Return who calls, by token or by cookie.

    Raises
    ------
    NotSignedInError
        If nobody is signed in.
    ConfigError
        If a proxy in front does not pass on what it must.
    NotAllowedError
        If the token opens nothing here, or a page of somebody else sent the browser.
    """
    token = header_token(request)
    if token is not None:
        # Only a program can set this header on a request to another site: nothing to forge.
        person = await factory.people.person(token)
        if request.method not in _READING and await factory.people.is_session(token):
            _check_session_may(request, factory)
        return person
    check_front(request, factory.config)
    token = login_token(request)
    if token is None:
        raise NotSignedInError("Nobody is signed in: sign in, or send a token in the Authorization header.")
    person = await factory.people.person(token)
    if await factory.people.is_session(token):
        # Pages would give it what makes a browser's request believed.
        raise NotSignedInError("This is the token of a session, not of a browser: sign in.")
    await check_same_site(request, factory, token)
    return person


def _check_session_may(request: Request, factory: Factory) -> None:
    """Refuse what would let guests of a session stay longer, or go further, than its owner let them.

    Raises
    ------
    NotAllowedError
        If a session may not do this.
    """
    path = request.url.path.removeprefix(factory.hub_settings.prefix)
    if _BY_SESSIONS.fullmatch(path) is None:
        raise NotAllowedError("A session cannot do this in your name: do it on the platform's own pages.")


PersonIn = Annotated[Person, Depends(current_person)]
FactoryIn = Annotated[Factory, Depends(get_factory)]
Cursor = Annotated[
    str | None,
    Query(description="The `next` of the page before; nothing for the first page.", max_length=200),
]
Limit = Annotated[int, Query(description="Most things on one page.", ge=1, le=200)]
