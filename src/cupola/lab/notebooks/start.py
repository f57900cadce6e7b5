"""`run_notebook`: start a job that runs a notebook."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from cupola.exceptions import InputError, UnavailableError
from cupola.lab.jobs.start import submit
from cupola.lab.notebooks.reading import Notebook, plain
from cupola.lab.notebooks.task import NotebookRun, run

if TYPE_CHECKING:
    from cupola.lab.jobs.handle import Job
    from cupola.lab.jobs.options import Options

__all__ = ["run_notebook"]

MEMORY = "2 GiB"
LONGEST_SOURCE = 200_000


def run_notebook(
    path: str | os.PathLike[str],
    parameters: Mapping[str, Any] | Iterable[Mapping[str, Any]] | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    name: str | None = None,
    **options: Unpack[Options],
) -> Job:
    """Run a notebook from its first cell to its last as a job; returns at once.

    It runs as it is saved now, in this session's version, with the same volumes and home, and a kernel of its own:
    what the kernel of an open notebook has computed is not carried over. The result lies beside the original as
    ``NAME.JOB.ipynb`` (``NAME.JOB-3.ipynb`` for set 3 of several), is saved before and after each cell, and is what
    ``job.result(0)`` gives the path of. Nothing that is there is written over.

    Parameters
    ----------
    path
        Of the notebook.
    parameters
        Other values for names of its cell with the tag ``parameters``: a dict, or a list of dicts, each of which is
        one run.
    folder
        Where the results go; beside the notebook where nothing is said.
    name
        For people; the notebook's name where nothing is said.
    **options
        As for `cupola.map`: ``cpus``, ``memory`` (here ``"2 GiB"`` where nothing is said), ``gpus``, ``time``,
        ``engine``, ``retries``, ``after``, ``team`` and ``notify``; each for one run of the notebook.

    Returns
    -------
    Job
        Show it for the live panel; ``list(job.results())`` are the paths of the results.

    Raises
    ------
    InputError
        The file is no notebook, a parameter is unknown, or an option is wrong.
    LimitError
        The tasks ask for more than there is.
    NotFoundError
        There is no such file.
    NotSignedInError
        This is no session.
    UnavailableError
        The portal does not answer, or this version cannot run the notebook.
    """
    notebook = Notebook.read(Path(os.path.abspath(path)))  # noqa: PTH100 - links such as ~/volumes stay as they are
    sets = _sets(parameters)
    for one in sets:
        notebook.check(one)
    if any(sets) and not notebook.tagged:
        warnings.warn(no_tag(notebook.path), stacklevel=2)
    _check_kernel(notebook)
    where = _writable(notebook.path.parent if folder is None else Path(os.path.abspath(folder)))  # noqa: PTH100
    runs = [
        NotebookRun(
            notebook=notebook.path,
            text=notebook.text,
            folder=where,
            parameters=one,
            language=notebook.language,
            kernel=notebook.kernel,
            jupyter_path=os.environ.get("JUPYTER_PATH", ""),
            number=number,
            inputs=len(sets),
        )
        for number, one in enumerate(sets)
    ]
    chosen: Options = {"memory": MEMORY, "chunk": 1, **options}
    return submit(
        name or notebook.path.stem,
        run,
        runs,
        labels=[_label(notebook.path, one) for one in sets],
        source="\n\n".join(f"# %%\n{code}" for code in notebook.code)[:LONGEST_SOURCE],
        **chosen,
    )


def no_tag(path: Path) -> str:
    """Say where parameters go that the notebook does not know."""
    return (
        f"No cell of {path.name} has the tag 'parameters': yours stand in a new cell at the top, which cells below may "
        "overwrite; give the cell with the defaults that tag (in the Lab: the two cogs at the right, Common Tools)."
    )


def _sets(parameters: Any) -> list[dict[str, Any]]:
    """Return a dict per run."""
    if parameters is None:
        return [{}]
    several = [parameters] if isinstance(parameters, Mapping) else parameters
    if isinstance(several, str | bytes) or not isinstance(several, Iterable):
        raise InputError(
            f"parameters={parameters!r} is no dict and no list of dicts: write {{'year': 2020}}."
        )
    found = []
    for one in several:
        if not isinstance(one, Mapping) or not all(
            isinstance(name, str) and name.isidentifier() for name in one
        ):
            raise InputError(
                f"{one!r} is no set of parameters: write {{'year': 2020}}, with names as in the cell."
            )
        found.append({name: plain(name, value) for name, value in one.items()})
    return found


def _check_kernel(notebook: Notebook) -> None:
    if importlib.util.find_spec("papermill") is None:
        raise UnavailableError(
            "This version has no papermill, which runs notebooks: take one that has it, such as the Lab's newest, or "
            "install it (pip install papermill)."
        )
    if notebook.kernel is None:
        return
    from jupyter_client.kernelspec import KernelSpecManager

    known = KernelSpecManager().find_kernel_specs()
    if notebook.kernel not in known:
        raise UnavailableError(
            f"The notebook {notebook.path.name} is written in {notebook.language} and this session has no kernel "
            f"{notebook.kernel!r} (it has {', '.join(sorted(known)) or 'none'}): use a version that has it."
        )


def _writable(folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder} for the results: make it first.")
    if not os.access(folder, os.W_OK):
        raise InputError(
            f"The results cannot be written to {folder}: say folder= of one that can, such as one in your home."
        )
    return folder


def _label(path: Path, parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in parameters.items()) or path.name
