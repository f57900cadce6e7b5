"""``cupola sample-data``: write the sample archive into a folder."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from cupola.cli.options import ConfigOption, StateOption, configuration
from cupola.exceptions import StartError

__all__ = ["register", "sample_data"]

_LIBRARIES = ("affine", "astropy", "h5netcdf", "h5py", "numpy", "PIL", "rasterio", "scipy")
"""What the archive is made with; the platform's own environment has them not."""

_LINE = re.compile(r"\s*(?P<share>\d+)% (?P<what>.+)")

Tell = Callable[[str, float], None]


def sample_data(
    folder: Annotated[Path, typer.Argument(help="Where the archive shall be; the folder is made.")],
    *,
    small: Annotated[bool, typer.Option("--small", help="Small images, for tests: a few MB.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Make it anew where a sample archive is there already.")
    ] = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Write the sample archive: made-up images of Earth, Mars and the sky, to try things with.

    It has Sentinel-2-like scenes, a cratered plain of Mars, a Sentinel-5P-like swath and a mosaic of the sky, with
    STAC documents. It takes about 70 MB and half a minute; an archive that is there and complete is left alone.
    """
    with _screen() as tell:
        if all(importlib.util.find_spec(name) for name in _LIBRARIES):
            from cupola.lab.samples import make

            make(folder, small=small, force=force, progress=tell)
        else:
            python = _lab_python(config, state)
            words = [str(folder), *(["--small"] if small else []), *(["--force"] if force else [])]
            _make_elsewhere(python, words, tell)
    typer.echo(f"The sample archive is in {folder}")


def _lab_python(config: Path | None, state: Path | None) -> Path:
    """Return the interpreter of the newest Lab environment, which has the libraries that are missing here.

    Raises
    ------
    StartError
        If no environment was built yet.
    """
    built = configuration(config, state).paths.environments / "lab"
    found = sorted(built.glob("*/bin/python"), key=lambda path: path.parent.parent.stat().st_mtime)
    for python in reversed(found):
        probe = "; ".join(f"import {name}" for name in ("cupola.lab.samples", *_LIBRARIES))
        done = subprocess.run([python, "-P", "-c", probe], capture_output=True, check=False)
        if done.returncode == 0:
            return python
    raise StartError(
        "The sample archive is made with raster libraries that are not installed here: start `cupola up` once, which "
        "builds the Lab's environment, or install cupola[lab]."
    )


def _make_elsewhere(python: Path, words: list[str], tell: Tell) -> None:
    """Make the archive with another interpreter, and tell how far it is.

    Raises
    ------
    StartError
        With the reason that it gave.
    """
    command = [str(python), "-P", "-u", "-m", "cupola.lab.samples", *words]
    last = ""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as maker:
        try:
            for line in maker.stdout or ():
                last = line.strip() or last
                if match := _LINE.fullmatch(line.rstrip()):
                    tell(match["what"], int(match["share"]) / 100)
        except BaseException:
            # It clears up what it has begun, and then ends.
            maker.terminate()
            raise
    if maker.returncode != 0:
        raise StartError(last or f"The sample archive could not be made: {python} ended without a reason.")


@contextlib.contextmanager
def _screen() -> Iterator[Tell]:
    """Show how far it is: a bar in a terminal, else a line for each step."""
    console = Console()
    if not console.is_terminal:
        yield lambda what, share: print(f"{share:4.0%} {what}", flush=True)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("the land", total=1.0)
        yield lambda what, share: progress.update(bar, description=what, completed=share)


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("sample-data", epilog="Example: cupola sample-data ~/samples --small")(sample_data)
