"""Defence against requests that somebody else's page makes a signed-in browser send.

A request that changes something and comes with the login cookie must come from our own address, and carry the
token that only our own pages know: in the header ``X-CSRF-Token``, or in the form field ``_csrf``. The token is
made from the login, so that one person's token is of no use with another person's cookie.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

from fastapi import Request

from cupola.exceptions import NotAllowedError
from cupola.platform.factory import Factory

__all__ = ["COOKIE", "FIELD", "HEADER", "check_same_site", "csrf_token"]

COOKIE = "cupola-csrf"
"""The cookie that our scripts may read the token from."""
HEADER = "X-CSRF-Token"
FIELD = "_csrf"
_SAFE = {"GET", "HEAD", "OPTIONS", "TRACE"}
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def csrf_token(factory: Factory, login: str) -> str:
    """Return the token for the person signed in with the token `login`."""
    # The internal token survives restarts, and so do the pages that people have open.
    key = f"csrf {factory.hub_settings.internal_token}".encode()
    return hmac.new(key, login.encode(), hashlib.sha256).hexdigest()


async def check_same_site(request: Request, factory: Factory, login: str) -> None:
    """Refuse a request that changes something and was not sent by our own page.

    Raises
    ------
    NotAllowedError
        If it comes from elsewhere, or lacks the token.
    """
    if request.method in _SAFE:
        return
    if not _from_here(request, factory):
        raise NotAllowedError(
            "This request was sent by a page of another site: do it on the platform's own page."
        )
    sent = request.headers.get(HEADER)
    if sent is None and request.headers.get("content-type", "").startswith(_FORMS):
        field = (await request.form()).get(FIELD)
        sent = field if isinstance(field, str) else None
    if sent is None or not hmac.compare_digest(sent.encode(), csrf_token(factory, login).encode()):
        raise NotAllowedError("The page you came from is too old: load it again, then try once more.")


def _from_here(request: Request, factory: Factory) -> bool:
    """Tell whether all that the browser says of the sending page names us; old browsers say nothing."""
    site = request.headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        return False
    origin = request.headers.get("origin")
    if origin is None:
        return True
    ours = {request.headers.get("host", "").lower()}
    if factory.config.url:
        ours.add(urlsplit(factory.config.url).netloc.lower())
    return urlsplit(origin).netloc.lower() in ours - {""}
