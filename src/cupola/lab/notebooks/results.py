"""Where the notebook that a job has run is written: beside the original, under a name of its own.

``analysis.JOB.ipynb``, with several sets of parameters ``analysis.JOB-3.ipynb`` (the number of the input, counted from
0 as in ``job.result(3)``), and where a task has left one already ``analysis.JOB.try2.ipynb``: nothing that is there is
ever written over. Only the standard library is used here, as the Jupyter server asks for names too.
"""

from __future__ import annotations

import contextlib
import os
from itertools import count
from typing import TYPE_CHECKING

from cupola.lab.jobs.failure import ToldError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NotebookError", "Result", "newest", "result_name"]


class NotebookError(ToldError):
    """A cell of the notebook failed, its kernel died, or its result cannot be written."""

    @classmethod
    def unwritten(cls, path: Path, error: OSError) -> NotebookError:
        """Return what to say of a result that cannot be written."""
        return cls(
            f"The result {path} cannot be written ({error.strerror or error}): make room or give another folder, "
            "and start it again.",
            "writing the result",
        )


class Result:
    """A notebook that is being written, saved again and again; whole at each moment.

    Parameters
    ----------
    path
        A file that belongs to this run alone, as `claim` makes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def claim(cls, folder: Path, name: str, text: str) -> Result:
        """Write `text` to the first name that is free, so that nobody else can have it.

        Parameters
        ----------
        folder, name
            Where, and the name without ``.ipynb``.
        text
            The notebook before its first cell has run.

        Raises
        ------
        OSError
            The folder is not there, cannot be written or is full.
        """
        aside = _aside(folder, name)
        try:
            aside.write_text(text, encoding="utf-8")
            for number in count(1):
                path = folder / (f"{name}.ipynb" if number == 1 else f"{name}.try{number}.ipynb")
                if _take(aside, path):
                    return cls(path)
        finally:
            aside.unlink(missing_ok=True)
        raise AssertionError  # pragma: no cover - the numbers do not end

    def write(self, text: str) -> None:
        """Save the notebook: written aside, then renamed.

        Raises
        ------
        OSError
            It cannot be written; the one saved before stays.
        """
        aside = _aside(self.path.parent, self.path.stem)
        try:
            aside.write_text(text, encoding="utf-8")
            aside.replace(self.path)
        finally:
            aside.unlink(missing_ok=True)


def result_name(notebook: Path, job: str, number: int | None = None, inputs: int = 1) -> str:
    """Return how the result of a job is called, without ``.ipynb``.

    Parameters
    ----------
    notebook, job
        The original, and the job's id.
    number, inputs
        Which of how many sets of parameters.
    """
    if number is None or inputs == 1:
        return f"{notebook.stem}.{job}"
    return f"{notebook.stem}.{job}-{number:0{len(str(inputs - 1))}d}"


def newest(folder: Path, notebook: Path, job: str) -> Path | None:
    """Return the result of a job of one run that was written last.

    Parameters
    ----------
    folder
        Where results of this notebook go.
    notebook, job
        The original, and the job's id.
    """
    name = result_name(notebook, job)
    found: list[tuple[int, str]] = []
    with contextlib.suppress(OSError):
        found = [
            (entry.stat().st_mtime_ns, entry.name)
            for entry in os.scandir(folder)
            if entry.name == f"{name}.ipynb"
            or (entry.name.startswith(f"{name}.try") and entry.name.endswith(".ipynb"))
        ]
    return folder / max(found)[1] if found else None


def _aside(folder: Path, name: str) -> Path:
    return folder / f".{name}.{os.uname().nodename}.{os.getpid()}.part"


def _take(aside: Path, path: Path) -> bool:
    """Give `aside` the name `path` too, if that is free."""
    try:
        path.hardlink_to(aside)
    except FileExistsError:
        return False
    except OSError:
        # Not every file system has links (a bucket that is mounted, say): an empty file is ours as well.
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            return False
        aside.replace(path)
    return True
