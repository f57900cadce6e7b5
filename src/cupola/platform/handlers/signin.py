"""Signing in with the hub, by OAuth with PKCE, and signing out."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from cupola.exceptions import NotSignedInError
from cupola.models.address import safe_path
from cupola.platform.factory import Factory
from cupola.platform.handlers.dependencies import FactoryIn, current_person, get_factory, login_token
from cupola.platform.handlers.forgery import COOKIE, csrf_token

__all__ = ["router", "safe_next", "start_sign_in"]

router = APIRouter(include_in_schema=False)

_MINUTES_S = 600
"""A person has this long to sign in."""
_MOST_TABS = 8
"""Sign-ins that one browser may have begun at a time."""


def safe_next(path: str, prefix: str) -> str:
    """Return `path` if it is a page of ours, else the first page: never an address of somebody else."""
    return safe_path(path, prefix) or prefix


def start_sign_in(request: Request) -> Response:
    """Send the browser to the hub; it comes back to `finish_sign_in`."""
    settings = get_factory(request).hub_settings
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
    digest = hashlib.sha256(verifier.encode()).digest()
    query = {
        "client_id": settings.client_id,
        "redirect_uri": _callback(request),
        "response_type": "code",
        "state": state,
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    reply = RedirectResponse(f"{settings.base_url}hub/api/oauth2/authorize?{urlencode(query)}", 302)
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    saved = json.dumps([state, verifier, safe_next(path, settings.prefix)])
    # A cookie per sign-in: two tabs that begin at once do not spoil each other's.
    name = _state_cookie(request, state)
    reply.set_cookie(
        name, base64.urlsafe_b64encode(saved.encode()).decode(), max_age=_MINUTES_S, **_attributes(request)
    )
    begun = [cookie for cookie in request.cookies if cookie.startswith(_state_cookie(request, ""))]
    for forgotten in begun[: max(0, len(begun) - _MOST_TABS + 1)]:
        reply.delete_cookie(forgotten, path=settings.prefix)
    return reply


@router.get("/oauth_callback")
async def finish_sign_in(request: Request, factory: FactoryIn, code: str = "", state: str = "") -> Response:
    """Take the code that the browser brings from the hub and sign the person in."""
    name = _state_cookie(request, state)
    verifier, path = _begun(request, name, state)
    token = await factory.people.sign_in(code=code, verifier=verifier, redirect_uri=_callback(request))
    settings = factory.hub_settings
    reply = RedirectResponse(safe_next(path, settings.prefix), 302)
    reply.set_cookie(settings.client_id, token, **_attributes(request))
    readable = _attributes(request) | {"httponly": False}
    reply.set_cookie(COOKIE, csrf_token(factory, token), **readable)
    reply.delete_cookie(name, path=settings.prefix)
    return reply


@router.post("/logout", dependencies=[Depends(current_person)])
async def sign_out(request: Request, factory: FactoryIn) -> Response:
    """Sign the person out here and at the hub, which ends the token."""
    settings = factory.hub_settings
    token = login_token(request)
    if token is not None:
        factory.people.forget(token)
    target = f"{settings.base_url}hub/logout"
    reply = RedirectResponse(target, 303)
    if request.headers.get("hx-request"):
        reply = Response(status_code=204, headers={"HX-Redirect": target})  # type: ignore[assignment]
    for name in (settings.client_id, COOKIE):
        reply.delete_cookie(name, path=settings.prefix)
    return reply


def _begun(request: Request, name: str, state: str) -> tuple[str, str]:
    """Return verifier and path of the sign-in that this very browser began."""
    try:
        saved = json.loads(base64.b64decode(request.cookies[name], altchars=b"-_", validate=True))
        expected, verifier, path = map(str, saved)
    except (KeyError, ValueError, TypeError, binascii.Error) as error:
        raise NotSignedInError(
            "This sign-in was not begun in this browser, or too long ago: open the platform's first page."
        ) from error
    if not state or not hmac.compare_digest(expected.encode(), state.encode()):
        raise NotSignedInError("This sign-in was not begun in this browser: open the platform's first page.")
    return verifier, path


def _state_cookie(request: Request, state: str) -> str:
    known = re.sub(r"[^A-Za-z0-9_-]", "", state)[:8]
    return f"{get_factory(request).hub_settings.client_id}-state-{known}"


def _callback(request: Request) -> str:
    return f"{get_factory(request).hub_settings.prefix}oauth_callback"


def _attributes(request: Request) -> dict[str, Any]:
    """Return how our cookies are set: for our own pages only, out of the reach of scripts."""
    factory: Factory = get_factory(request)
    secure = request.url.scheme == "https" or factory.config.address.startswith("https:")
    return {"httponly": True, "samesite": "lax", "path": factory.hub_settings.prefix, "secure": secure}
