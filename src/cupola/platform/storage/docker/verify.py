"""Running a datalab's own check inside its new image, under the limits of a session."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from docker.types import Mount

from cupola.exceptions import StartError
from cupola.platform.storage.docker.engine import TIMED_OUT

if TYPE_CHECKING:
    from pathlib import Path

    from cupola.models.datalab import Datalab
    from cupola.platform.storage.docker.engine import Engine

__all__ = ["LABEL_BUILD", "verify"]

LABEL_BUILD = "cupola.build"
"""On containers of a build; its value is the platform's own."""
NUMBER = 54321
"""A user that no image knows."""
HOME = "/home/verify"
SECONDS = 900.0
MEMORY = "4g"
SHOWN_LINES = 8


def verify(  # noqa: PLR0913 - a check is that many things; each by its name
    engine: Engine, *, image: str, program: Path, datalab: Datalab, accounts: Path, key: str, log: Path
) -> None:
    """Run `program` inside `image`; it passes with exit code 0.

    The container has a read-only root, no capabilities, no network, a user number that the image does not know, an
    empty home and the datalab's own variables.

    Parameters
    ----------
    engine
        Runs it.
    image
        Its id.
    program
        The datalab's ``verify``, executable.
    datalab
        What it is about.
    accounts
        A folder for the files that name the user.
    key
        Marks the container as one of this platform's builds.
    log
        Takes what it says.

    Raises
    ------
    StartError
        If it does not pass; the text is the end of what it said.
    """
    for file, text in (
        ("passwd", f"root:x:0:0:root:/root:/bin/bash\nverify:x:{NUMBER}:{NUMBER}::{HOME}:/bin/bash\n"),
        ("group", f"root:x:0:\nverify:x:{NUMBER}:\n"),
    ):
        (accounts / file).write_text(text, encoding="utf-8")
    environment = {
        **datalab.environment,
        "HOME": HOME,
        "USER": "verify",
        "CUPOLA_COMMAND": json.dumps(datalab.command),
        "CUPOLA_PORT": str(datalab.port),
        "CUPOLA_RUNTIME": f"{HOME}/.cupola",
        "CUPOLA_VERSION": image,
        "CUPOLA_VOLUMES": "[]",
    }
    code, said, errors = engine.run(
        SECONDS,
        image=image,
        command=["/run/verify"],
        user=f"{NUMBER}:{NUMBER}",
        working_dir=HOME,
        environment=environment,
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        network_mode="none",
        mem_limit=MEMORY,
        pids_limit=2048,
        tmpfs={
            # As in a session: programs of the user's may run in both.
            "/tmp": "rw,exec,nosuid,nodev,mode=1777,size=1g",  # noqa: S108 - the container's own
            HOME: f"rw,exec,nosuid,nodev,mode=700,uid={NUMBER},gid={NUMBER},size=2g",
        },
        mounts=[
            Mount("/run/verify", str(program), type="bind", read_only=True),
            Mount("/etc/passwd", str(accounts / "passwd"), type="bind", read_only=True),
            Mount("/etc/group", str(accounts / "group"), type="bind", read_only=True),
        ],
        labels={LABEL_BUILD: key},
    )
    text = (said + errors).decode(errors="replace")
    with log.open("a", encoding="utf-8") as out:
        out.write(f"\n--- verify, exit code {code}\n{text}")
    if code == TIMED_OUT:
        raise StartError(
            f"The check of {datalab.name} takes longer than {SECONDS / 60:.0f} minutes (log: {log})"
        )
    if code != 0:
        last = [line.strip() for line in text.splitlines() if line.strip()][-SHOWN_LINES:]
        raise StartError(
            f"The image of {datalab.name} was built, but its check fails; the last it said: "
            f"{' | '.join(last) or 'nothing'} (all of it: {log})"
        )
