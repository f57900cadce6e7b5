"""JupyterHub's configuration, made from ours."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyterhub_traefik_proxy.traefik_utils import deep_merge

from cupola.config import Compute
from cupola.exceptions import StartError
from cupola.hub.containers.network import known
from cupola.hub.database import hub_database
from cupola.hub.keys import Keys
from cupola.hub.ports import LOOPBACK, Ports
from cupola.hub.tls import certificate_routes
from cupola.hub.traefik import door_routes, routes_file

if TYPE_CHECKING:
    from cupola.config import Config

__all__ = ["PORTAL", "configure", "portal_environment"]

PORTAL = "cupola"
"""The portal's name as a service: it lies under /services/cupola/."""

PORTAL_COMMAND = [sys.executable, "-P", "-m", "cupola.platform"]

PORTAL_SCOPES = [
    # Only who may open a server can share it: it shares for owners, and opens none.
    "access:servers",
    "admin:groups",
    "admin:servers",
    "delete:servers",
    "list:users",
    "read:hub",
    "read:servers",
    "read:users",
    "servers",
    "shares",
    "users:activity",
]
SUPERVISOR_SCOPES = ["delete:servers", "list:users", "read:hub", "read:servers"]
SESSION_SCOPES = ["users:activity!user", "access:servers!server", f"access:services!service={PORTAL}"]


def portal_environment(config: Config, keys: Keys) -> dict[str, str]:
    """Return what the portal's process gets beside what the hub itself sets."""
    environment = {
        "CUPOLA_STATE": str(config.paths.state),
        "CUPOLA_PORT": str(config.server.port),
        "CUPOLA_INTERNAL_TOKEN": keys.internal,
        "PYTHONUNBUFFERED": "1",
    }
    if config.file is not None:
        environment["CUPOLA_CONFIG"] = str(config.file)
    # The hub passes nothing on to services but PATH and the locale.
    environment.update({name: os.environ[name] for name in ("HOME", "TMPDIR") if name in os.environ})
    return environment


def configure(c: Any, config: Config) -> None:
    """Fill JupyterHub's configuration object `c`."""
    keys, ports = Keys(config.paths.secrets), Ports.read(config.paths.ports)
    _hub(c, config, keys, ports)
    _proxy(c, config, keys, ports)
    _sign_in(c, config)
    _sessions(c, config, keys, ports)
    _services(c, config, keys, ports)


def _hub(c: Any, config: Config, keys: Keys, ports: Ports) -> None:
    host = f"[{config.server.address}]" if ":" in config.server.address else config.server.address
    c.JupyterHub.bind_url = f"http://{host}:{config.server.port}"
    if config.url:
        c.JupyterHub.public_url = config.address + "/"
    c.JupyterHub.hub_ip = LOOPBACK
    c.JupyterHub.hub_port = ports.hub
    c.JupyterHub.db_url = hub_database(config)
    c.JupyterHub.upgrade_db = True
    c.JupyterHub.cookie_secret_file = str(keys.cookie_file)
    c.JupyterHub.log_level = config.log.level.value.upper()
    c.JupyterHub.template_paths = [str(Path(__file__).parent / "templates")]
    c.JupyterHub.template_vars = {"platform_title": config.title}
    c.JupyterHub.default_url = f"/services/{PORTAL}/"
    # Sessions outlive the hub; the supervisor stops them when the whole platform stops.
    c.JupyterHub.cleanup_servers = False
    c.JupyterHub.cleanup_proxy = False
    c.JupyterHub.api_page_default_limit = 50
    c.JupyterHub.api_page_max_limit = 200


def _proxy(c: Any, config: Config, keys: Keys, ports: Ports) -> None:
    c.JupyterHub.proxy_class = "cupola.hub.proxy.FastTraefikFileProxy"
    c.FastTraefikFileProxy.should_start = False
    c.FastTraefikFileProxy.traefik_api_url = f"http://{LOOPBACK}:{ports.proxy}"
    c.FastTraefikFileProxy.traefik_api_username = "hub"
    c.FastTraefikFileProxy.traefik_api_password = keys.proxy
    c.FastTraefikFileProxy.dynamic_config_file = str(routes_file(config.paths.proxy))
    c.FastTraefikFileProxy.extra_dynamic_config = certificate_routes(config)


def _sign_in(c: Any, config: Config) -> None:
    c.JupyterHub.authenticator_class = "cupola.hub.signin.authenticator.SignInAuthenticator"
    c.SignInAuthenticator.settings = config
    c.Authenticator.admin_users = {config.owner}
    # Who may be in is looked at again and again: no cookie and no token outlives that by more than this.
    c.Authenticator.allow_existing_users = False
    c.Authenticator.auth_refresh_age = 3
    c.Authenticator.auth_refresh_strict = True
    c.JupyterHub.cookie_max_age_days = 7
    cookies = {"samesite": "Lax", **({"secure": True} if config.address.startswith("https:") else {})}
    c.JupyterHub.tornado_settings = {"cookie_options": cookies, "xsrf_cookie_kwargs": dict(cookies)}
    c.JupyterHub.oauth_require_pkce = True
    c.JupyterHub.extra_user_scopes = [f"access:services!service={PORTAL}"]


def _sessions(c: Any, config: Config, keys: Keys, ports: Ports) -> None:
    c.JupyterHub.spawner_class = "cupola.hub.spawner.SessionSpawner"
    c.JupyterHub.allow_named_servers = True
    c.JupyterHub.redirect_to_server = False
    c.JupyterHub.concurrent_spawn_limit = 20
    c.SessionSpawner.portal_url = f"http://{LOOPBACK}:{ports.portal}/services/{PORTAL}/api"
    c.SessionSpawner.internal_token = keys.internal
    c.SessionSpawner.records = str(config.paths.running)
    c.SessionSpawner.compute = config.compute.value
    if config.sessions.idle.freeze_kernels:
        c.SessionSpawner.frozen = str(config.paths.frozen)
    if config.compute is Compute.DOCKER:
        _containers(c, config, ports)
    c.SessionSpawner.server_token_scopes = SESSION_SCOPES
    c.SessionSpawner.start_timeout = 180
    c.SessionSpawner.http_timeout = 60
    # A session that died is seen, and told to the portal, within this time.
    c.SessionSpawner.poll_interval = 2


def _containers(c: Any, config: Config, ports: Ports) -> None:
    """Sessions are containers: they reach the platform through the door alone."""
    network = known(config.paths)
    if network is None:
        raise StartError(
            f"{config.paths.network} names no network of sessions; start the platform with `cupola up`, which makes it"
        )
    c.SessionSpawner.engine = config.docker.host
    c.SessionSpawner.platform_key = config.paths.key
    c.SessionSpawner.hub_connect_url = network.door_url
    c.FastTraefikFileProxy.extra_dynamic_config = deep_merge(door_routes(ports), certificate_routes(config))


def _services(c: Any, config: Config, keys: Keys, ports: Ports) -> None:
    c.JupyterHub.services = [
        {
            "name": PORTAL,
            "url": f"http://{LOOPBACK}:{ports.portal}",
            "command": [
                sys.executable,
                "-P",
                "-m",
                "cupola.hub.keep",
                str(config.paths.log / "portal.log"),
                *PORTAL_COMMAND,
            ],
            "environment": portal_environment(config, keys),
            "cwd": str(config.paths.state),
            "api_token": keys.portal,
            "oauth_no_confirm": True,
            "oauth_client_allowed_scopes": ["self"],
        },
        {"name": "cupola-supervisor", "api_token": keys.supervisor},
    ]
    c.JupyterHub.load_roles = [
        {
            "name": "cupola-portal",
            "description": "The portal starts and stops the sessions that it decided on",
            "scopes": PORTAL_SCOPES,
            "services": [PORTAL],
        },
        {
            "name": "cupola-supervisor",
            "description": "The supervisor stops the sessions when the platform stops",
            "scopes": SUPERVISOR_SCOPES,
            "services": ["cupola-supervisor"],
        },
    ]
