"""From what was decided to the plan that the spawner follows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from cupola.models.containers import HOMES_INSIDE, VOLUMES_INSIDE, container_name, labels_of
from cupola.models.datalab import DatalabKind
from cupola.models.session import ContainerMount, ContainerPlan, Plan, ProcessPlan
from cupola.models.volume import Access, Mount, VolumeKind
from cupola.platform.builders.volume import bind_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cupola.config import DockerSettings, StatePaths
    from cupola.models.containers import Account, SessionNetwork
    from cupola.models.datalab import Datalab
    from cupola.models.resources import Resources
    from cupola.models.session import Session
    from cupola.models.volume import Volume

__all__ = [
    "binds_of",
    "container_plan",
    "links",
    "links_inside",
    "session_plan",
    "volume_variables",
    "volumes_text",
]

RUNTIME = ".cupola"
"""The folder of a home that is the platform's."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def links(volumes: Sequence[Volume], home: Path) -> list[Mount]:
    """Return how a process of this host sees `volumes`: the home where it is, the others as links in it."""
    return [
        Mount(
            volume=volume.name,
            source=volume.source,
            target=home if volume.kind is VolumeKind.HOME else home / "volumes" / volume.name,
            access=volume.access,
            variable=volume.variable,
        )
        for volume in volumes
    ]


def volume_variables(mounts: Sequence[Mount]) -> dict[str, str]:
    """Return the environment variables that tell where reference data are, such as ``ISISDATA``."""
    return {mount.variable: str(mount.source) for mount in mounts if mount.variable}


def volumes_text(mounts: Sequence[Mount]) -> str:
    """Return ``CUPOLA_VOLUMES``: `mounts` as JSON, without what older versions of the Lab do not know."""
    return json.dumps([mount.model_dump(mode="json", exclude={"variable"}) for mount in mounts])


def _own_variables(  # noqa: PLR0913 - what every session is told; each by its name
    *,
    session: str,
    version: str,
    mounts: Sequence[Mount],
    home: Path,
    api_url: str,
    clean: bool,
    guardian: bool,
) -> dict[str, str]:
    """Return what every session finds in its environment, whatever else is set there."""
    variables = {
        "CUPOLA_API_URL": api_url,
        "CUPOLA_SESSION": session,
        "CUPOLA_VERSION": version,
        "CUPOLA_VOLUMES": volumes_text(mounts),
        "CUPOLA_RUNTIME": str(home / RUNTIME),
        "HOME": str(home),
    }
    off = {} if guardian else {"CUPOLA_GUARDIAN": "0"}
    return variables | ({"CUPOLA_CLEAN": "1"} if clean else {}) | off


def session_plan(  # noqa: PLR0913 - a plan says that much; each by its name
    *,
    session: str,
    owner: str,
    datalab: Datalab,
    digest: str,
    python: Path,
    mounts: Sequence[Mount],
    clean: bool,
    variables: Mapping[str, str],
    paths: StatePaths,
    api_url: str,
    guardian: bool = True,
) -> Plan:
    """Return the plan of a session as a process of this host.

    Parameters
    ----------
    session, owner
        Its id and whose it is.
    datalab, digest, python
        What runs, in which version, and that version's interpreter.
    mounts
        The volumes it sees.
    clean
        Without the packages that the owner installed.
    variables
        What the datalab and the owner set; the platform's own win.
    paths
        The platform's folders.
    api_url
        The portal's REST root, as a process of this host reaches it.
    guardian
        Whether kernels outlive their server; else JupyterLab is as it comes.
    """
    home, log = paths.home(owner), paths.session_log(session)
    own = _own_variables(
        session=session,
        version=digest,
        mounts=mounts,
        home=home,
        api_url=api_url,
        clean=clean,
        guardian=guardian,
    )
    return Plan(
        session=session,
        owner=owner,
        datalab=datalab.name,
        version=digest,
        ready_path=datalab.ready_path,
        mounts=list(mounts),
        process=ProcessPlan(
            # -P: a file of the user in the working folder must not shadow a library of the server.
            command=[str(python), "-P", "-m", "cupola.lab.session"],
            environment={**volume_variables(mounts), **variables, **own},
            folder=home,
            folders=[home, home / RUNTIME, log.parent],
            log=log,
            zygote=paths.zygote(owner, digest),
        ),
    )


def binds_of(volumes: Sequence[Volume], home: Path, mounts: Path, *, shared: bool) -> list[ContainerMount]:
    """Return the folders that a container is given for `volumes`: the home, and the others below ``/volumes``.

    What is out of reach is left out, unless it is mounted when it comes back.

    Parameters
    ----------
    volumes
        What was chosen.
    home
        Where the home lies in the container.
    mounts, shared
        As :func:`cupola.platform.builders.volume.bind_of` takes them.
    """
    found = []
    for volume in volumes:
        bind = bind_of(volume, mounts, shared=shared)
        if volume.unavailable and not bind.follow:
            continue
        inside = home if volume.kind is VolumeKind.HOME else Path(VOLUMES_INSIDE, volume.name)
        found.append(
            ContainerMount(
                source=bind.source,
                target=inside,
                read_only=volume.access is Access.READ,
                follow=bind.follow,
            )
        )
    return found


def links_inside(volumes: Sequence[Volume], home: Path, mounts: Path, *, shared: bool) -> list[Mount]:
    """Return how a container sees `volumes`; parameters as :func:`binds_of` takes them."""
    return [
        Mount(
            volume=volume.name,
            source=home
            if volume.kind is VolumeKind.HOME
            else Path(VOLUMES_INSIDE, volume.name) / bind_of(volume, mounts, shared=shared).below,
            target=home if volume.kind is VolumeKind.HOME else home / "volumes" / volume.name,
            access=volume.access,
            variable=volume.variable,
        )
        for volume in volumes
        if not volume.unavailable or bind_of(volume, mounts, shared=shared).follow
    ]


def container_command(datalab: Datalab, python: Path) -> list[str]:
    """Return what a container of `datalab` runs: a Jupyter server, or what stands in front of a tool of another kind."""
    # -P: a file of the user in the working folder must not shadow a library of the server.
    if datalab.kind is DatalabKind.JUPYTERLAB:
        return [str(python), "-P", "-m", "cupola.lab.session"]
    return [str(python), "-P", "-m", "cupola.lab.app", "--", *datalab.command]


def _environment_inside(  # noqa: PLR0913, PLR0917 - what a plan is made of
    session: Session,
    datalab: Datalab,
    resources: Resources,
    mounts: Sequence[Mount],
    home: Path,
    network: SessionNetwork,
    *,
    guardian: bool,
) -> dict[str, str]:
    """Return what a container finds in its environment; the platform's own variables win."""
    threads = str(max(1, math.ceil(resources.cores)))
    own = _own_variables(
        session=session.id,
        version=session.version,
        mounts=mounts,
        home=home,
        api_url=f"{network.door_url}/services/cupola/api",
        clean=session.clean,
        guardian=guardian,
    )
    return {
        # Libraries count the cores of the machine, which are not the session's.
        **dict.fromkeys(THREADS, threads),
        **volume_variables(mounts),
        **datalab.environment,
        **session.environment,
        **own,
    }


def _names(paths: StatePaths, owner: str) -> list[ContainerMount]:
    """Return the files that tell a container how people and teams are called."""
    return [
        ContainerMount(source=paths.passwd(owner), target=Path("/etc/passwd"), read_only=True),
        ContainerMount(source=paths.group(owner), target=Path("/etc/group"), read_only=True),
    ]


def container_plan(  # noqa: PLR0913 - a plan says that much; each by its name
    *,
    session: Session,
    resources: Resources,
    datalab: Datalab,
    python: Path,
    volumes: Sequence[Volume],
    account: Account,
    paths: StatePaths,
    network: SessionNetwork,
    settings: DockerSettings,
    shared: bool,
    guardian: bool = True,
) -> Plan:
    """Return the plan of a session as a container.

    Parameters
    ----------
    session
        Its id, whose it is, its version, and what its owner chose.
    resources
        Its limits.
    datalab, python
        What runs, and the interpreter of its Jupyter server in the image.
    volumes
        What it mounts, the home among them.
    account
        The owner's numbers.
    paths
        The platform's folders.
    network
        The network it is in, with the door to the platform.
    settings
        What holds for every container.
    shared
        Whether a container sees what is mounted after its start.
    guardian
        Whether kernels outlive their server; else JupyterLab is as it comes.
    """
    owner, home = session.owner, Path(HOMES_INSIDE, session.owner)
    mounts = links_inside(volumes, home, paths.mounts, shared=shared)
    container = ContainerPlan(
        name=container_name(network.key, session.id),
        image=session.version,
        command=container_command(datalab, python),
        environment=_environment_inside(
            session, datalab, resources, mounts, home, network, guardian=guardian
        ),
        user=account.user,
        group=account.group,
        groups=list(account.groups.values()),
        folder=home,
        mounts=[*binds_of(volumes, home, paths.mounts, shared=shared), *_names(paths, owner)],
        resources=resources,
        processes=settings.processes,
        scratch_mib=settings.scratch_mib,
        network=network.name,
        port=datalab.port,
        publish=not network.internal,
        log=paths.session_log(session.id),
    )
    return _plan_with(container, session, datalab, mounts, network.key)


def _plan_with(
    container: ContainerPlan, session: Session, datalab: Datalab, mounts: Sequence[Mount], key: str
) -> Plan:
    """Return the plan around `container`, which carries the labels that it is found by again."""
    plan = Plan(
        session=session.id,
        owner=session.owner,
        datalab=datalab.name,
        version=session.version,
        ready_path=datalab.ready_path,
        mounts=list(mounts),
    )
    labelled = container.model_copy(update={"labels": labels_of(plan, key)})
    return plan.model_copy(update={"container": labelled})
