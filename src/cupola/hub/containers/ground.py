"""What containers of sessions stand on, made at the platform's start and looked after while it runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cupola.exceptions import CupolaError, StartError, UnavailableError
from cupola.hub.containers import network as networks
from cupola.hub.containers.engine import containers_of, engine_client
from cupola.hub.containers.firewall import Firewall, resolvers, why_not

if TYPE_CHECKING:
    from collections.abc import Callable

    from cupola.config import Config, StatePaths
    from cupola.models.containers import SessionNetwork

__all__ = ["Ground", "clear", "problem"]

LOOK_SECONDS = 5
"""Between two looks at the rules: so long at most do sessions run without them when somebody flushes them."""


def problem(config: Config) -> str | None:
    """Return why sessions cannot run in containers here, with the way out; nothing where they can."""
    if reason := why_not():
        return reason
    try:
        engine_client(config.docker.host).ping()
    except UnavailableError as exc:
        return str(exc)
    except Exception as exc:  # noqa: BLE001 - whatever it is, it does not answer
        engine_client.cache_clear()
        return f"the Docker engine at {config.docker.host} does not answer ({exc}); restart it"
    return None


class Ground:
    """Network and rules of one platform.

    Parameters
    ----------
    config
        Its configuration.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.network: SessionNetwork | None = None
        self.firewall: Firewall | None = None
        self._next_look = 0.0
        self._told: str | None = None

    def make_network(self) -> SessionNetwork:
        """Make the network, and return it without its door.

        Raises
        ------
        StartError
            It cannot be made, with the reason.
        """
        if reason := problem(self.config):
            raise StartError(reason)
        try:
            self.network = networks.make(self.config)
        except UnavailableError as exc:
            raise StartError(str(exc)) from exc
        return self.network

    def open_door(self, port: int) -> SessionNetwork:
        """Make the rules, with the door at `port`, and write down what the hub and the portal need to know.

        Raises
        ------
        StartError
            The rules cannot be made.
        OSError
            It cannot be written down.
        """
        if self.network is None:
            raise StartError("the network of the sessions was not made; start the platform with `cupola up`")
        self.network = self.network.model_copy(update={"door": port})
        settings = self.config.docker
        self.firewall = Firewall(
            self.network, allow=settings.allow, block=settings.block, name_servers=resolvers()
        )
        self.firewall.apply()
        networks.keep(self.config.paths, self.network)
        return self.network

    def look(self, tell: Callable[[str], None]) -> None:
        """Make the rules anew where somebody took them away: a restart of the engine or of a firewall does."""
        if self.firewall is None or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_SECONDS
        try:
            if not self.firewall.intact():
                self.firewall.apply()
                tell("The rules that keep sessions apart had been taken away; they are made anew")
            self._told = None
        except StartError as exc:
            if self._told != str(exc):  # once, not every few seconds
                self._told = str(exc)
                tell(str(exc))

    def clear(self) -> None:
        """Take rules and network away, if no container is left that needs them."""
        if self.network is not None:
            clear(self.network, self.config.paths)


def clear(network: SessionNetwork, paths: StatePaths) -> bool:
    """Take rules, network and the note on it away; return whether that was done, which it is not while containers need them."""
    try:
        if containers_of(network.host, network.key) or not networks.remove(network):
            return False
    except CupolaError:
        return False  # what may still run must not run without rules
    Firewall(network).remove()
    paths.network.unlink(missing_ok=True)
    return True
