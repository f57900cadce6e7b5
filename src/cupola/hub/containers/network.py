"""The network of a platform's containers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cupola.config.docker import NetworkKind
from cupola.exceptions import StartError
from cupola.hub.containers.engine import answering, engine_client
from cupola.hub.files import write_private
from cupola.models.containers import PLATFORM_LABEL, SessionNetwork

if TYPE_CHECKING:
    from cupola.config import Config, StatePaths

__all__ = ["bridge_of", "keep", "known", "make", "network_name", "remove"]

BRIDGED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
"""Whether packets between two containers of a bridge pass the packet filter at all."""


def network_name(key: str) -> str:
    """Return the name of the network of the platform with the key `key`."""
    return f"cupola-{key}"


def bridge_of(key: str) -> str:
    """Return the name of the bridge, which the rules go by; the system allows it 15 letters."""
    return f"cup-{key}"


def make(config: Config, *, talk: bool = False) -> SessionNetwork:
    """Make the network where it is not there yet, and return it without its door.

    Parameters
    ----------
    config
        The platform's configuration.
    talk
        Let containers talk with each other, which a test does to see that it would notice.

    Raises
    ------
    UnavailableError
        The engine does not answer or refuses.
    StartError
        There is one of other settings in use, or this machine cannot keep containers apart.
    """
    from docker.types import IPAMConfig, IPAMPool

    client = engine_client(config.docker.host)
    key, subnet = config.paths.key, config.docker.subnet
    wanted: dict[str, Any] = {
        "internal": config.docker.network is NetworkKind.INTERNAL,
        "options": {
            "com.docker.network.bridge.name": bridge_of(key),
            "com.docker.network.bridge.enable_icc": str(talk).lower(),
        },
    }
    with answering("the network of the sessions cannot be made"):
        found = _find(client, network_name(key))
        if found is not None and not _fits(found, wanted, subnet):
            if found.get("Containers"):
                raise StartError(
                    f"the network {network_name(key)} has other settings now and {len(found['Containers'])} session(s) in "
                    "it; end them with `cupola down`, then start again"
                )
            client.api.remove_network(found["Id"])
            found = None
        if found is None:
            client.api.create_network(
                network_name(key),
                driver="bridge",
                ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)]) if subnet else None,
                enable_ipv6=False,
                labels={PLATFORM_LABEL: key},
                **wanted,
            )
            found = _find(client, network_name(key))
    if found is None:
        raise StartError(
            f"the network {network_name(key)} was removed while the platform started; start again"
        )
    if not talk:
        _check_bridge_filter()
    return _described(found, config)


def _find(client: Any, name: str) -> dict[str, Any] | None:
    for row in client.api.networks(names=[name]):
        if row["Name"] == name:
            inspected: dict[str, Any] = client.api.inspect_network(row["Id"])
            return inspected
    return None


def _fits(found: dict[str, Any], wanted: dict[str, Any], subnet: str | None) -> bool:
    pool = (found.get("IPAM") or {}).get("Config") or [{}]
    return (
        found.get("Driver") == "bridge"
        and bool(found.get("Internal")) == wanted["internal"]
        and wanted["options"].items() <= (found.get("Options") or {}).items()
        and (subnet is None or pool[0].get("Subnet") == subnet)
    )


def _described(found: dict[str, Any], config: Config) -> SessionNetwork:
    pool = (found["IPAM"]["Config"] or [{}])[0]
    subnet, gateway = pool.get("Subnet", ""), str(pool.get("Gateway", "")).partition("/")[0]
    if not gateway:
        raise StartError(
            f"the engine gave the network {found['Name']} no gateway; name its addresses as docker.subnet in cupola.yaml"
        )
    key = config.paths.key
    return SessionNetwork(
        key=key,
        host=config.docker.host,
        name=found["Name"],
        bridge=bridge_of(key),
        gateway=gateway,
        subnet=subnet,
        internal=config.docker.network is NetworkKind.INTERNAL,
    )


def _check_bridge_filter() -> None:
    """Refuse a machine on which the rules between containers would silently do nothing."""
    try:
        on = BRIDGED.read_text(encoding="ascii").strip() == "1"
    except OSError:
        on = False
    if not on:
        raise StartError(
            "containers of one bridge are not kept apart on this machine; run `modprobe br_netfilter` and "
            "`sysctl net.bridge.bridge-nf-call-iptables=1`, then start again"
        )


def keep(paths: StatePaths, network: SessionNetwork) -> None:
    """Write down what is known of the network.

    Raises
    ------
    OSError
        It cannot be written.
    """
    write_private(paths.network, network.model_dump_json())


def known(paths: StatePaths) -> SessionNetwork | None:
    """Return what was written down; nothing where this platform has had no containers."""
    try:
        return SessionNetwork.model_validate_json(paths.network.read_bytes())
    except (OSError, ValidationError):
        return None


def remove(network: SessionNetwork) -> bool:
    """Remove the network if no container is in it; return whether it is gone.

    Raises
    ------
    UnavailableError
        The engine does not answer.
    """
    client = engine_client(network.host)
    with answering("the network of the sessions cannot be removed"):
        found = _find(client, network.name)
        if found is None:
            return True
        if found.get("Containers"):
            return False
        client.api.remove_network(found["Id"])
    return True
