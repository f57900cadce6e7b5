"""The ``docker`` command: builds go through it, since only it speaks to BuildKit."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import deque
from typing import TYPE_CHECKING

from cupola.exceptions import StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["DockerCommand", "engine_environment", "find_docker"]

BUILT_IN_UNTIL = 23
"""From this version on the command needs the plug-in buildx for BuildKit."""
SHOWN_LINES = 6
_STEP = re.compile(r"#\d+ \[(?!internal)(?P<where>[^\]]+)\] (?P<what>.+)")
_SAID = re.compile(r"#\d+ \d+\.\d+ (?P<text>.*)")
_NOISE = re.compile(r"#\d+ (sha256:|DONE|CACHED|exporting|transferring|writing)|-+$|\s*$| > \[")
_TOLD = ("Resolved", "Downloading", "Building", "Built", "Prepared", "Installed", "Bytecode", "Fetched")
"""What of a step's output is worth a person's time."""
_FULL = "no space left on device"


def engine_environment(host: str) -> dict[str, str]:
    """Return the environment in which the command talks to the engine at `host` and to no other."""
    ours = {"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "BUILDX_BUILDER"}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return {**kept, "DOCKER_HOST": host, "DOCKER_BUILDKIT": "1", "NO_COLOR": "1"}


def find_docker(host: str) -> str:
    """Return the ``docker`` command whose BuildKit works.

    Raises
    ------
    StartError
        If there is none; the text says what to install.
    """
    folders = [*os.environ.get("PATH", os.defpath).split(os.pathsep), "/usr/bin", "/usr/local/bin"]
    found = [path for folder in dict.fromkeys(folders) if (path := shutil.which("docker", path=folder))]
    if not found:
        raise StartError(
            "The command docker is missing, which builds images: install it with `sudo apt-get install docker.io`."
        )
    environment = engine_environment(host)
    for path in found:
        if _builds(path, environment):
            return path
    raise StartError(
        f"No docker command here can build images with BuildKit ({', '.join(found)} lack the plug-in buildx): "
        "install it with `sudo apt-get install docker-buildx` (or docker-buildx-plugin)."
    )


def _builds(path: str, environment: Mapping[str, str]) -> bool:
    said = _ask([path, "version", "--format", "{{.Client.Version}}"], environment)
    if match := re.match(r"(\d+)\.", said):
        return int(match[1]) < BUILT_IN_UNTIL or bool(_ask([path, "buildx", "version"], environment))
    return False


def _ask(command: list[str], environment: Mapping[str, str]) -> str:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=environment,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    # An engine that does not answer is told elsewhere; the command's own version comes all the same.
    return done.stdout.strip()


class DockerCommand:
    """Runs the ``docker`` command.

    Parameters
    ----------
    host
        Where the engine listens.
    """

    def __init__(self, host: str) -> None:
        self.host = host
        self._path = ""

    def build(  # noqa: PLR0913 - a build is that many things; each by its name
        self,
        *,
        name: str,
        context: Path,
        secret: Path,
        arguments: Mapping[str, str],
        labels: Mapping[str, str],
        log: Path,
        tell: Callable[[str], None],
        fresh: bool = False,
    ) -> str:
        """Build an image and return its id.

        Parameters
        ----------
        name
            Of the image, for messages.
        context
            The folder that the build sees, with the Dockerfile.
        secret
            The file that lines of the build find as ``/run/secrets/host``.
        arguments, labels
            Of the build, and of the image.
        log
            Takes all that is said.
        tell
            Gets a line whenever something happens.
        fresh
            Use nothing of earlier builds.

        Raises
        ------
        StartError
            If it fails; the text is the end of what it said.
        """
        self._path = self._path or find_docker(self.host)
        answer = context.with_name(f"{context.name}.id")
        answer.unlink(missing_ok=True)
        command = [self._path, "build", "--progress=plain", "--network=host", f"--iidfile={answer}"]
        command += [f"--secret=id=host,src={secret}"]
        command += [f"--build-arg={key}={value}" for key, value in arguments.items()]
        command += [f"--label={key}={value}" for key, value in labels.items()]
        command += ["--no-cache"] if fresh else []
        self._run([*command, str(context)], name, log, tell)
        return answer.read_text(encoding="utf-8").strip()

    def push(self, image: str, log: Path, tell: Callable[[str], None]) -> None:
        """Put an image into its registry, with the rights that ``docker login`` gave this account.

        Raises
        ------
        StartError
            The registry does not take it.
        """
        self._path = self._path or find_docker(self.host)
        tell(f"putting it into the registry as {image}")
        with log.open("a", encoding="utf-8") as output:
            done = subprocess.run(
                [self._path, "push", image],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                env=engine_environment(self.host),
            )
            output.write(done.stdout + done.stderr)
        if done.returncode != 0:
            reason = " ".join(done.stderr.split()) or "no reason was given"
            raise StartError(f"The registry does not take {image} ({reason}): `docker login` signs in there.")

    def _run(self, command: list[str], name: str, log: Path, tell: Callable[[str], None]) -> None:
        last: deque[str] = deque(maxlen=SHOWN_LINES)
        full = False
        with (
            log.open("a", encoding="utf-8") as output,
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=engine_environment(self.host),
                text=True,
                errors="replace",
            ) as process,
        ):
            try:
                for line in process.stdout or ():
                    output.write(line)
                    full = full or _FULL in line.lower()
                    text = line.rstrip()
                    if match := _STEP.match(text):
                        tell(f"{match['where']}: {_first_words(match['what'])}")
                    elif match := _SAID.match(text):
                        last.append(match["text"])
                        if match["text"].startswith(_TOLD):
                            tell(match["text"])
                    elif not _NOISE.match(text):
                        last.append(text)
            except BaseException:
                process.terminate()
                raise
        if process.returncode != 0:
            if full:
                raise StartError(
                    f"The disk of the Docker engine is full, so the image of {name} could not be built: free some "
                    "space (`docker system df` shows what takes it) and try again."
                )
            said = " | ".join(text.strip() for text in last if text.strip()) or "nothing"
            raise StartError(
                f"The image of {name} could not be built; the last it said: {said} (all of it: {log})"
            )


def _first_words(line: str) -> str:
    """Return a step of a Dockerfile without its mounts."""
    return re.sub(r"--mount=\S+\s+|\. /etc/cupola/host\s+&&\s+", "", line)
