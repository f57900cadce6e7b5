"""From a container's plan to what the engine is told. Nothing is decided here, and nothing left to the engine's defaults."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupola.models.containers import SESSION_LABEL

if TYPE_CHECKING:
    import docker

    from cupola.models.session import ContainerPlan

__all__ = ["container_settings"]

LOOPBACK = "127.0.0.1"
MIB = 2**20
LOG_SIZE, LOG_FILES = "8m", "2"
RUN_MIB = 16
IPV6 = Path("/proc/sys/net/ipv6")
"""There where the kernel has it: only then can it be switched off."""


def container_settings(
    api: docker.APIClient, plan: ContainerPlan, environment: dict[str, str], labels: dict[str, str]
) -> dict[str, Any]:
    """Return what the engine is told.

    Parameters
    ----------
    api
        Knows how this engine wants to be told.
    plan
        What the portal decided.
    environment, labels
        What the container finds in its environment, and how it is found again.
    """
    from docker.types import LogConfig, Ulimit

    memory = plan.resources.memory_mib * MIB
    host = api.create_host_config(
        nano_cpus=round(plan.resources.cores * 1e9),
        mem_limit=memory,
        memswap_limit=memory,  # swap would make a session that needs more memory slow for everybody
        pids_limit=plan.processes,
        shm_size=plan.scratch_mib * MIB,
        device_requests=_gpus(plan),
        mounts=_mounts(plan),
        tmpfs={
            # Programs are built and run in /tmp, so it may hold them.
            "/tmp": f"rw,exec,nosuid,nodev,size={plan.scratch_mib}m,mode=1777",  # noqa: S108 - in the container
            "/run": f"rw,noexec,nosuid,nodev,size={RUN_MIB}m,mode=755",
        },
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        read_only=True,
        init=True,
        group_add=[str(group) for group in plan.groups],
        network_mode=plan.network,
        port_bindings={f"{plan.port}/tcp": (LOOPBACK, None)} if plan.publish else None,
        log_config=LogConfig(type="json-file", config={"max-size": LOG_SIZE, "max-file": LOG_FILES}),
        sysctls=_sysctls(),
        # A program that dies must not fill the home with a copy of its memory.
        ulimits=[Ulimit(name="core", soft=0, hard=0)],
        ipc_mode="private",
        restart_policy={"Name": "no"},
    )
    settings = api.create_container_config(
        image=plan.image,
        command=plan.command,
        entrypoint=[],
        environment=environment,
        user=f"{plan.user}:{plan.group}",
        working_dir=str(plan.folder),
        hostname=labels.get(SESSION_LABEL) or "session",
        labels=labels,
        ports=[(str(plan.port), "tcp")] if plan.publish else None,
        host_config=host,
        # SIGTERM: images may name another signal, which a Jupyter server would take for a crash.
        stop_signal="SIGTERM",
        healthcheck={"Test": ["NONE"]},
    )
    return dict(settings)


def _mounts(plan: ContainerPlan) -> list[dict[str, Any]]:
    from docker.types import Mount

    # In this order a folder is there before what is mounted in it.
    return [
        Mount(
            target=str(mount.target),
            source=str(mount.source),
            type="bind",
            read_only=mount.read_only,
            propagation="rslave" if mount.follow else "rprivate",
        )
        for mount in sorted(plan.mounts, key=lambda mount: mount.target)
    ]


def _gpus(plan: ContainerPlan) -> list[Any]:
    from docker.types import DeviceRequest

    if not plan.resources.gpus:
        return []
    numbers = [str(number) for number in plan.gpus]
    # Named one by one where the portal chose: a count would let two sessions share one.
    chosen = {"device_ids": numbers} if numbers else {"count": plan.resources.gpus}
    return [DeviceRequest(capabilities=[["gpu"]], **chosen)]


def _sysctls() -> dict[str, str]:
    # So that a session may listen on port 80 of its own without a capability.
    settings = {"net.ipv4.ip_unprivileged_port_start": "0"}
    if IPV6.is_dir():
        settings.update({f"net.ipv6.conf.{where}.disable_ipv6": "1" for where in ("all", "default")})
    return settings
