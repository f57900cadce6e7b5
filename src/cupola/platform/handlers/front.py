"""Behind another proxy: what it must say of the browser, and a clear word where it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cupola.exceptions import ConfigError

if TYPE_CHECKING:
    from fastapi import Request

    from cupola.config import Config

__all__ = ["check_front"]


def check_front(request: Request, config: Config) -> None:
    """Refuse a browser's request that the proxy in front passes on without what it must say.

    Without it sign-in would go in circles and notebooks would not connect, each with an error that names no cause.

    Raises
    ------
    ConfigError
        It names another host than `url`, or another scheme.
    """
    # The hub looks whether we live, past all proxies; only a browser asks for a page.
    asks_for_page = "text/html" in request.headers.get("accept", "")
    if not config.server.trusted_proxies or not config.url or not asks_for_page:
        return
    wanted, host = urlsplit(config.address), request.headers.get("host", "").lower()
    if host != wanted.netloc.lower():
        raise ConfigError(
            f'The proxy in front passes on "Host: {host}" where `url` in cupola.yaml says {wanted.netloc}: let it set '
            "the header Host to what the browser sent (nginx: proxy_set_header Host $http_host)."
        )
    if request.url.scheme != wanted.scheme:
        raise ConfigError(
            f"The proxy in front says that the browser came by {request.url.scheme}, where `url` in cupola.yaml says "
            f"{wanted.scheme}: let it set the header X-Forwarded-Proto (nginx: proxy_set_header X-Forwarded-Proto "
            "$scheme), and name its address in server.trusted_proxies."
        )
