"""From what was decided to the plan that the spawner follows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cupola.models.session import Plan, ProcessPlan
from cupola.models.volume import Mount, VolumeKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cupola.config import StatePaths
    from cupola.models.datalab import Datalab
    from cupola.models.volume import Volume

__all__ = ["links", "session_plan", "volume_variables", "volumes_text"]


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
    """
    home = paths.home(owner)
    runtime = home / ".cupola"
    environment = {
        **volume_variables(mounts),
        **variables,
        "CUPOLA_API_URL": api_url,
        "CUPOLA_SESSION": session,
        "CUPOLA_VERSION": digest,
        "CUPOLA_VOLUMES": volumes_text(mounts),
        "CUPOLA_RUNTIME": str(runtime),
        "HOME": str(home),
    }
    if clean:
        environment["CUPOLA_CLEAN"] = "1"
    log = paths.session_log(session)
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
            environment=environment,
            folder=home,
            folders=[home, runtime, log.parent],
            log=log,
            zygote=paths.zygote(owner, digest),
        ),
    )
