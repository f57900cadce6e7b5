"""What the administrator of an HTCondor pool sets for tasks in containers, on a machine whose engine belongs to root."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["account", "settings_of_nodes"]


def settings_of_nodes(folder: Path, address: str, volumes: Mapping[str, str]) -> str:
    """Return the lines for the configuration of execute nodes.

    Parameters
    ----------
    folder
        Where to put the program ``docker`` that HTCondor finds: its daemons are no members of the engine's group.
    address
        Where the engine listens for them.
    volumes
        What containers are given, by name: as ``docker run --volume`` takes it. All but ``HOMES`` only where the job's
        session has the volume of that name.
    """
    program = folder / "docker"
    program.write_text(f'#!/bin/sh\nDOCKER_HOST={address} exec {shutil.which("docker")} "$@"\n')
    program.chmod(0o755)
    names = ", ".join(volumes)
    return "\n".join(
        [
            f"DOCKER = {program}",
            "DOCKER_PERFORM_TEST = False",
            f"DOCKER_VOLUMES = {names}",
            f"DOCKER_MOUNT_VOLUMES = {names}",
            *(f"DOCKER_VOLUME_DIR_{name} = {value}" for name, value in volumes.items()),
            *(
                f'DOCKER_VOLUME_DIR_{name}_MOUNT_IF = stringListMember("{name.lower()}", TARGET.CupolaVolumes)'
                for name in volumes
                if name != "HOMES"
            ),
        ]
    )


@contextlib.contextmanager
def account(name: str, home: Path) -> Iterator[None]:
    """Make a system account with the numbers that a home belongs to, and remove it at the end."""
    owner = home.stat()
    assert owner.st_uid != os.geteuid()
    # What a test that was killed has left has the same numbers.
    for left in (one.pw_name for one in pwd.getpwall() if one.pw_uid == owner.st_uid):
        assert left.startswith("cup"), f"{left} has the number of the first person of a platform"
        subprocess.run(["userdel", "--force", left], check=True, capture_output=True)
    subprocess.run(["groupadd", "--gid", str(owner.st_gid), name], check=True)
    try:
        numbers = ["--uid", str(owner.st_uid), "--gid", str(owner.st_gid)]
        quiet = ["--no-create-home", "--shell", "/usr/sbin/nologin"]
        subprocess.run(["useradd", *numbers, *quiet, name], check=True, capture_output=True)
        yield
    finally:
        subprocess.run(["userdel", "--force", name], check=False, capture_output=True)
        # Where the account came to be, its group went with it.
        subprocess.run(["groupdel", name], check=False, capture_output=True)
