"""Running ISIS through kalasiris, and the Ames Stereo Pipeline, with errors that say what to do."""

from __future__ import annotations

import difflib
import functools
import importlib
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cupola.exceptions import ProgramError
from cupola.lab.isis.errors import explain, find_problems
from cupola.lab.isis.output import read_values

__all__ = ["Run", "run"]

log = logging.getLogger(__name__)

DATALAB = "isis-asp"
_LAST_LINES = 3
_KILLED = -9


@dataclass(frozen=True)
class Run:
    """A program that ran without an error.

    ``command`` is what was run, word by word; ``text`` what it printed, ``messages`` what it wrote to standard error.
    """

    program: str
    command: list[str]
    text: str
    messages: str = field(repr=False, default="")

    @functools.cached_property
    def values(self) -> dict[str, Any]:
        """The PVL that it printed, as `read_values` gives it.

        Raises
        ------
        InputError
            If it printed none.
        """
        return read_values(self.text)


def run(program: str, *arguments: str | Path, timeout: float | None = None, **parameters: Any) -> Run:
    """Run a program of ISIS or of the Ames Stereo Pipeline, and wait for it.

    Parameters
    ----------
    program
        Its name, such as ``"cam2map"`` or ``"parallel_stereo"``.
    *arguments
        For ASP programs: files and options in their order. ISIS programs take none but reserved words such as
        ``"help__"``.
    timeout
        Seconds after which it is ended; None waits for ever.
    **parameters
        For ISIS programs: the parameters by name, those that Python reserves with an underscore behind
        (``from_="in.cub", to="out.cub"``), reserved parameters with two (``pref__="my.pref"``). For ASP programs:
        options, ``threads=4`` for ``--threads 4``, ``o="run/out"`` for ``-o run/out``, ``align_method="none"`` for ``--align-method none``, True for an option
        without a value.

    Raises
    ------
    ProgramError
        If there is no such program, or it fails; the text says why, and what to do.

    Examples
    --------
    >>> run("stats", from_="mars.cub").values["Results"]["Average"]  # doctest: +SKIP
    141.3
    """
    started = _isis if _is_isis(program) else _asp
    try:
        command, done = started(program, [str(one) for one in arguments], parameters, timeout)
    except subprocess.TimeoutExpired as exc:
        raise ProgramError(f"{program} did not finish within {timeout:g} s; give it more time") from exc
    except OSError as exc:
        raise ProgramError(f"{program} cannot be run: {exc.strerror or exc}") from exc
    problems = find_problems(f"{done.stderr}\n{done.stdout}") if done.returncode else []
    if problems:
        raise ProgramError(explain(program, problems))
    if done.returncode:
        raise ProgramError(_without_a_word(program, done))
    return Run(program, command, done.stdout, done.stderr)


def _is_isis(program: str) -> bool:
    root = os.environ.get("ISISROOT")
    return bool(root) and Path(root or "", "bin", "xml", f"{program}.xml").is_file()


def _isis(
    program: str, arguments: list[str], parameters: dict[str, Any], timeout: float | None
) -> tuple[list[str], subprocess.CompletedProcess[str]]:
    if not (os.environ.get("ISISDATA") or os.environ.get("ISIS3DATA")):
        raise ProgramError(
            f"{program} needs ISIS data, and ISISDATA is not set; mount the volume with ISIS data"
        )
    import kalasiris

    chosen = {name: str(value) for name, value in parameters.items() if value is not None}
    if not hasattr(kalasiris, program):
        # It knows the programs that were there when it was loaded; ISIS may have come, or moved, since.
        importlib.reload(sys.modules["kalasiris.kalasiris"])
        kalasiris = importlib.reload(kalasiris)
    # kalasiris keeps the environment of its first import; a notebook may have changed it since.
    path = f"{os.environ['ISISROOT']}/bin{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    words: dict[str, Any] = {"_check": False, "_env": {**os.environ, "PATH": path}, "_timeout": timeout}
    try:
        done = getattr(kalasiris, program)(*arguments, **chosen, **words)
    except IndexError as exc:
        raise ProgramError(f"{program} takes parameters by name only, such as from_=...: {exc}") from exc
    log.info("%s", " ".join(done.args))
    return list(done.args), done


def _asp(
    program: str, arguments: list[str], parameters: dict[str, Any], timeout: float | None
) -> tuple[list[str], subprocess.CompletedProcess[str]]:
    found = shutil.which(program)
    if found is None:
        raise ProgramError(_no_such_program(program))
    command = [found, *_options(parameters), *arguments]
    log.info("%s", " ".join(command))
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, timeout=timeout
    )
    return command, done


def _options(parameters: dict[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in parameters.items():
        word = name.rstrip("_").replace("_", "-")
        option = f"-{word}" if len(word) == 1 else f"--{word}"
        if value is None or value is False:
            continue
        if value is True:
            words.append(option)
        elif isinstance(value, list | tuple):
            words += [option, " ".join(str(one) for one in value)]
        else:
            words += [option, str(value)]
    return words


def _no_such_program(program: str) -> str:
    root = os.environ.get("ISISROOT")
    if not root:
        return f"{program} is not installed here; start the datalab {DATALAB}, which has ISIS and the Ames Stereo Pipeline"
    known = [file.stem for file in Path(root, "bin", "xml").glob("*.xml")]
    near = difflib.get_close_matches(program, known, n=1)
    return f"there is no program {program} here{f'; did you mean {near[0]}?' if near else ''}"


def _without_a_word(program: str, done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode == _KILLED:
        return f"{program} was killed, most likely because the session had no memory left; start it with more memory"
    lines = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
    said = " | ".join(lines[-_LAST_LINES:]) or "nothing"
    return f"{program} failed with exit code {done.returncode}; the last it said: {said}"
