"""HTTPS by traefik itself: a certificate that it fetches (ACME), or one from files; and plain HTTP led there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cupola.exceptions import StartError

if TYPE_CHECKING:
    from cupola.config import Config

__all__ = ["certificate_routes", "check", "entry_settings", "plain_entry", "resolvers", "serves_https"]

RESOLVER = "cupola"
PLAIN_ENTRY = "plain"
HSTS = "cupola-hsts"
_YEAR_S = 31_536_000


def serves_https(config: Config) -> bool:
    """Tell whether the platform itself speaks HTTPS: not where a proxy in front does."""
    return bool(config.url and config.url.startswith("https:") and not config.server.trusted_proxies)


def check(config: Config) -> None:
    """Make sure that files of a certificate are there and fit together as a pair of settings.

    Raises
    ------
    StartError
        They do not.
    """
    certificate, key = config.server.certificate, config.server.certificate_key
    if (certificate is None) != (key is None):
        raise StartError("server.certificate and server.certificate_key belong together; set both or none")
    for file in (certificate, key):
        if file is None:
            continue
        try:
            file.open("rb").close()
        except OSError as exc:
            raise StartError(f"the certificate's file {file} cannot be read: {exc.strerror or exc}") from exc
    if certificate is not None and not serves_https(config):
        raise StartError(
            "server.certificate is set, but people would not reach it; let `url` begin with https and name no "
            "server.trusted_proxies"
        )


def entry_settings(config: Config) -> dict[str, Any]:
    """Return what the public entry gets beside its address."""
    if not serves_https(config):
        return {}
    tls: dict[str, Any] = {}
    if config.server.certificate is None:
        tls = {"certResolver": RESOLVER, "domains": [{"main": urlsplit(config.address).hostname}]}
    # It is defined with the routes: without them there is nothing that it would be missed for.
    return {"tls": tls, "middlewares": [f"{HSTS}@file"]}


def plain_entry(config: Config, to: str) -> dict[str, Any]:
    """Return the entry that leads plain HTTP to the entry `to`, if there is to be one, by its name."""
    port = config.server.redirect_port
    if not serves_https(config) or port is None:
        return {}
    address = config.server.address
    host = f"[{address}]" if ":" in address else address
    redirection = {"entryPoint": {"to": to, "scheme": "https", "permanent": True}}
    return {PLAIN_ENTRY: {"address": f"{host}:{port}", "http": {"redirections": redirection}}}


def resolvers(config: Config) -> dict[str, Any]:
    """Return who fetches the certificate, if anybody."""
    if not serves_https(config) or config.server.certificate is not None:
        return {}
    acme: dict[str, Any] = {
        # traefik makes it readable for its own account alone.
        "storage": str(config.paths.proxy / "acme.json"),
        "caServer": config.server.acme_server,
    }
    if config.server.acme_email:
        acme["email"] = config.server.acme_email
    if config.server.redirect_port is None:
        acme["tlsChallenge"] = {}
    else:
        acme["httpChallenge"] = {"entryPoint": PLAIN_ENTRY}
    return {"certificatesResolvers": {RESOLVER: {"acme": acme}}}


def certificate_routes(config: Config) -> dict[str, Any]:
    """Return what goes with the routes: the certificate of the files, and the header that keeps browsers on HTTPS."""
    if not serves_https(config):
        return {}
    header = {"stsSeconds": _YEAR_S}
    found: dict[str, Any] = {"http": {"middlewares": {HSTS: {"headers": header}}}}
    if config.server.certificate is not None:
        pair = {"certFile": str(config.server.certificate), "keyFile": str(config.server.certificate_key)}
        found["tls"] = {"certificates": [pair], "stores": {"default": {"defaultCertificate": pair}}}
    return found
