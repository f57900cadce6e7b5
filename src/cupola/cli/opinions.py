"""Who computes the second opinion of ``cupola demo``: the Lab's own interpreter, wherever sessions have it."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cupola.config import Compute, environments_source
from cupola.exceptions import StartError
from cupola.models.containers import HOMES_INSIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cupola.config import Config
    from cupola.monitor.main_job import Opinion

__all__ = ["second_opinion"]

SECONDS = 900
SAMPLES = "sample-archive"


def second_opinion(settings: Config) -> Opinion:
    """Return what runs a script in the Lab's environment, with the files of a person's session.

    Raises
    ------
    StartError
        The Lab is not built yet.
    """
    return _in_container(settings) if settings.compute is Compute.DOCKER else _as_process(settings)


def _as_process(settings: Config) -> Opinion:
    from cupola.platform.storage.environments import EnvironmentStore

    built = EnvironmentStore(settings.paths.environments, environments_source()).versions("lab")
    if not built:
        raise StartError("the Lab's environment is not built yet; `cupola up` builds it")

    def run(script: Path, words: Sequence[str], person: str) -> tuple[int, bytes, bytes]:
        del person  # a process sees all files of this machine where they are
        command = [str(built[0].python), "-P", str(script), *words]
        done = subprocess.run(command, capture_output=True, check=False, timeout=SECONDS)
        return done.returncode, done.stdout, done.stderr

    return run


def _in_container(settings: Config) -> Opinion:
    """Run it in the Lab's image, where home and volumes lie at the same places as in a session."""
    from cupola.platform.storage.docker.engine import Engine
    from cupola.platform.storage.docker.images import ImageStore

    engine = Engine(settings.docker.host)
    built = [one for one in ImageStore(settings.paths.images, engine).versions("lab") if one.version.ready]
    if not built:
        raise StartError("the Lab's image is not built yet; `cupola build lab` builds it")

    def run(script: Path, words: Sequence[str], person: str) -> tuple[int, bytes, bytes]:
        home, folder = settings.paths.home(person), tempfile.gettempdir()
        seen = {
            str(home): Path(HOMES_INSIDE, person),
            # The link in the home says where the session has it.
            str(settings.paths.sample_archive): (home / "volumes" / SAMPLES).readlink(),
            # What was fetched for the comparison.
            folder: Path(folder),
        }
        with tempfile.NamedTemporaryFile(suffix=".py", dir=folder) as copy:
            # The engine's machine need not have this installation: a platform in a container shares folders with it.
            copy.write(script.read_bytes())
            copy.flush()
            return engine.run(
                SECONDS,
                image=built[0].version.digest,
                entrypoint=[],
                command=[str(built[0].python), "-P", copy.name, *words],
                volumes={source: {"bind": str(target), "mode": "ro"} for source, target in seen.items()},
                network_mode="none",
                user="0:0",
            )

    return run
