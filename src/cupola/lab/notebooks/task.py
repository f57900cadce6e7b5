"""Run a notebook in a task: papermill, a kernel of the task's own Python, and a result that is saved at each cell.

papermill and what comes with it are loaded here alone, where a notebook is really run.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupola.lab.notebooks.results import NotebookError, Result, result_name

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NotebookRun", "run"]

KERNEL = "python3"
START_S = 300
"""A file system that many tasks load Python from at once is slow."""
LONGEST_PATH = 40
"""Of the folder for a kernel's sockets, whose whole path must stay below 108 bytes."""


@dataclass(frozen=True)
class NotebookRun:
    """One input of such a job: the notebook as it was at the submit, and what is to be another in it."""

    notebook: Path
    text: str
    folder: Path
    """Where the result goes."""
    parameters: dict[str, Any] = field(default_factory=dict)
    language: str = "python"
    kernel: str | None = None
    """Of another language; its own Python runs the task's notebook else."""
    jupyter_path: str = ""
    """Where the session finds kernels of other languages."""
    number: int = 0
    inputs: int = 1


def run(wish: NotebookRun) -> Path:
    """Run a notebook and return where the result is.

    Parameters
    ----------
    wish
        What is to be run.

    Raises
    ------
    NotebookError
        A cell failed; the result is there with the error in it.
    """
    import nbformat

    # Not only errors: papermill warns that a notebook has no tag, which was said at the submit.
    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    book = _prepared(wish)
    job = os.environ.get("CUPOLA_JOB", "job")
    name = result_name(wish.notebook, job, wish.number, wish.inputs)
    try:
        result = Result.claim(wish.folder, name, nbformat.writes(book))  # type: ignore[no-untyped-call]
    except OSError as error:
        raise NotebookError.unwritten(wish.folder / f"{name}.ipynb", error) from error
    book.metadata.papermill.update(input_path=str(wish.notebook), output_path=str(result.path))
    print(f"{wish.notebook.name} -> {result.path}")  # noqa: T201 - the log of the task
    with _sockets() as sockets, _kernel(wish, sockets), contextlib.chdir(_home_of(wish.notebook)):
        _execute(book, result, wish.kernel or KERNEL, sockets)
    print(f"done: {result.path}")  # noqa: T201
    return result.path


def _prepared(wish: NotebookRun) -> Any:
    """Return the notebook with the parameters in it, and the kernel that will run it."""
    import nbformat
    from papermill.execute import remove_error_markers
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    book = load_notebook_node(nbformat.reads(wish.text, as_version=4))  # type: ignore[no-untyped-call]
    if wish.kernel is None:
        book.metadata["kernelspec"] = {"name": KERNEL, "display_name": "Python 3", "language": "python"}
    if wish.parameters:
        book = parameterize_notebook(
            book, wish.parameters, kernel_name=wish.kernel or KERNEL, language=wish.language
        )
        if not any("parameters" in cell.metadata.get("tags", []) for cell in book.cells):
            print("no cell has the tag 'parameters': yours stand in a new cell at the top")  # noqa: T201
    return remove_error_markers(book)


def _home_of(notebook: Path) -> Path:
    """Return where a kernel works, as in the Lab: the notebook's folder."""
    return notebook.parent if notebook.parent.is_dir() else Path.cwd()


@contextlib.contextmanager
def _sockets() -> Iterator[Path]:
    """Make a folder that is ours alone, for the kernel's sockets: ports could be taken by the kernel next door."""
    base = tempfile.gettempdir()
    short = base if len(base) <= LONGEST_PATH else "/tmp"  # noqa: S108 - mkdtemp makes it ours
    folder = Path(tempfile.mkdtemp(prefix="cupola-", dir=short))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _kernel(wish: NotebookRun, folder: Path) -> Iterator[None]:
    """Make the task's own Python known as the kernel, before one of that name in the home."""
    spec = folder / "kernels" / KERNEL
    spec.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    said = {"argv": command, "display_name": "Python 3", "language": "python", "interrupt_mode": "signal"}
    (spec / "kernel.json").write_text(json.dumps(said), encoding="utf-8")
    before = os.environ.get("JUPYTER_PATH")
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(folder), wish.jupyter_path, before]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["JUPYTER_PATH"]
        else:
            os.environ["JUPYTER_PATH"] = before


def _execute(book: Any, result: Result, kernel: str, sockets: Path) -> None:
    from nbclient.exceptions import DeadKernelError
    from papermill.clientwrap import PapermillNotebookClient
    from traitlets.config import Config

    from cupola.lab.notebooks.watch import Watch

    watch = Watch(book, result)
    settings = {"transport": "ipc", "connection_file": str(sockets / "k.json")}
    client = PapermillNotebookClient(
        watch,
        kernel_name=kernel,
        timeout=None,
        startup_timeout=START_S,
        log=logging.getLogger("papermill"),
        # What the cells print is the log of the task too.
        stdout_file=sys.stdout,
        stderr_file=sys.stderr,
        config=Config({"KernelManager": settings}),
    )
    watch.notebook_start()
    try:
        client.execute()
    except DeadKernelError:
        watch.died()
    finally:
        watch.notebook_complete()
    watch.tell()
