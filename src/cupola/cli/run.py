"""``cupola run``: a function of a Python file, or any program, over many files as a job."""

from __future__ import annotations

import glob
import importlib.util
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cupola.exceptions import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cupola.lab.jobs.handle import Job

__all__ = ["register", "run"]

FAILED, INTERRUPTED = 1, 130

WorkArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILE.py:FUNCTION INPUTS",
        help="What to run (not with --command), then files; patterns in quotes are filled in here.",
        show_default=False,
    ),
]
CommandOption = Annotated[
    str,
    typer.Option(
        help="A program instead, with {input}, {output}, {stem}, {name}, {parent} and {number} in its arguments.",
        show_default=False,
    ),
]
OutputOption = Annotated[
    str, typer.Option("--output", help="Name of each output, such as '{stem}.png'.", show_default=False)
]
FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", help="Where outputs go. Nothing: this folder.", show_default=False),
]
ShellOption = Annotated[bool, typer.Option("--shell", help="The command is for the shell, with pipes and >.")]
FromOption = Annotated[
    typer.FileText | None,
    typer.Option("--from", help="A file with one more input per line, taken as it is; - for stdin."),
]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="Wait for the end; the exit code is 1 if it failed.")
]
NameOption = Annotated[str, typer.Option("--name", help="For people.", show_default=False)]
CpusOption = Annotated[int, typer.Option("--cpus", help="Cores per task.")]
MemoryOption = Annotated[str, typer.Option("--memory", help="Memory per task.")]
GpusOption = Annotated[int, typer.Option("--gpus", help="GPUs per task.")]
TimeOption = Annotated[
    str, typer.Option("--time", help="Longest that a task may run, such as '30 min'.", show_default=False)
]
ChunkOption = Annotated[
    int | None, typer.Option("--chunk", help="Inputs per task. Nothing: chosen for you.", show_default=False)
]
EngineOption = Annotated[
    str,
    typer.Option("--engine", help="Which batch engine. Nothing: the platform's default.", show_default=False),
]
RetriesOption = Annotated[
    int, typer.Option("--retries", help="How often a task that was killed is run again.")
]
AfterOption = Annotated[
    list[str] | None,
    typer.Option("--after", help="A job that must be done first; may be given again.", show_default=False),
]
TeamOption = Annotated[str, typer.Option("--team", help="The team it counts for.", show_default=False)]
NotifyOption = Annotated[
    bool | None,
    typer.Option(
        "--notify/--no-notify", help="Tell you its end. Nothing: as you have set it.", show_default=False
    ),
]


def run(  # noqa: PLR0913 - the options of a job
    work: WorkArgument = None,
    *,
    command: CommandOption = "",
    output: OutputOption = "",
    folder: FolderOption = None,
    shell: ShellOption = False,
    lines: FromOption = None,
    wait: WaitOption = False,
    name: NameOption = "",
    cpus: CpusOption = 1,
    memory: MemoryOption = "1 GiB",
    gpus: GpusOption = 0,
    time: TimeOption = "",
    chunk: ChunkOption = None,
    engine: EngineOption = "",
    retries: RetriesOption = 1,
    after: AfterOption = None,
    team: TeamOption = "",
    notify: NotifyOption = None,
) -> None:
    """Run a function of a Python file, or a program, over many files as a job, and print the job's id.

    In a session's terminal it works as it is. Elsewhere CUPOLA_API_URL and CUPOLA_TOKEN name the platform and you.
    """
    words = list(work or [])
    if not command and not words:
        raise InputError("Say what to run: cupola run script.py:function FILES, or --command '...' FILES.")
    told = "" if command else words.pop(0)
    files = [found for word in words for found in _files(word)]
    given = [*files, *_lines(lines)]
    if not given:
        raise InputError(
            "There are no inputs: name files after what is to run, or a list of them with --from."
        )

    from cupola.lab import jobs

    job = jobs.map(
        None if command else _function(told),
        [os.path.abspath(file) for file in files] + given[len(files) :],  # noqa: PTH100 - links stay as they are
        command=command or None,
        outputs=output or None,
        folder=folder,
        shell=shell,
        labels=given,
        name=name or None,
        cpus=cpus,
        memory=int(memory) if memory.isdecimal() else memory,
        gpus=gpus,
        time=float(time) if time.isdecimal() else time or None,
        chunk=chunk,
        engine=engine or None,
        retries=retries,
        after=after,
        team=team or None,
        notify=notify,
    )
    _tell(job, wait=wait)


def _tell(job: Job, *, wait: bool) -> None:
    """Print the id, for scripts; the rest is for people. Leaves with an exit code if the job failed."""
    typer.echo(job.id)
    if not wait:
        shown = shlex.quote(job.name)
        typer.echo(
            f"{job!r}. Follow it: cupola logs --follow {shown}. End it: cupola stop {shown}.", err=True
        )
        return
    try:
        job.wait(progress=sys.stdout.isatty())
    except KeyboardInterrupt:
        typer.echo(f"The job runs on; this ends it: cupola stop {job.id}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(repr(job), err=True)
    for group in job.failures():
        first = group.example
        typer.echo(
            f"{group.count:,} times {group.error}: {first.message} (the first: {first.label})", err=True
        )
    if job.state != "done":
        raise typer.Exit(FAILED)


def _files(word: str) -> list[str]:
    """Return the files that a word of the command line stands for."""
    if os.path.lexists(word):
        return [word]
    found = sorted(glob.glob(os.path.expanduser(word), recursive=True))  # noqa: PTH111, PTH207 - texts are wanted
    if not found:
        what = "No file is called like" if glob.has_magic(word) else "There is no file"
        raise InputError(f"{what} {word!r} (inputs that are no files come from --from).")
    return found


def _lines(source: Iterable[str] | None) -> list[str]:
    return [line.rstrip("\r\n") for line in source or () if line.strip()]


def _function(told: str) -> Callable[[Any], Any]:
    """Return the function that ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION`` names."""
    where, colon, name = told.rpartition(":")
    if not colon or not where or not name.isidentifier():
        raise InputError(f"{told!r} names no function: write script.py:function, or use --command.")
    module = _load(where)
    found = getattr(module, name, None)
    if not callable(found):
        own = [
            known
            for known, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", "") == module.__name__ and known[0] != "_"
        ]
        raise InputError(f"{where} has no function {name!r}; it has: {', '.join(own) or 'none'}.")
    return found  # type: ignore[no-any-return]  # whatever it returns, it can be called


def _load(where: str) -> Any:
    """Import a file or a module; what lies beside the file (or here) can be imported by it."""
    file = Path(where).resolve() if where.endswith(".py") else None
    if file is not None and not file.is_file():
        raise InputError(f"There is no file {where!r}.")
    sys.path.insert(0, str(file.parent if file else Path.cwd()))
    try:
        return _execute(file) if file else importlib.import_module(where)
    except Exception as error:
        raise InputError(f"{where} cannot be loaded ({type(error).__name__}: {error}).") from error


def _execute(file: Path) -> Any:
    # A file may be called as a module that is loaded already.
    name = file.stem if file.stem not in sys.modules else f"{file.stem}_of_job"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # noqa: S101 - it ends in .py
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command(
        "run",
        no_args_is_help=True,
        epilog="Example: cupola run script.py:function 'data/*.tif' --memory 2GiB --wait\n\n"
        "Example: cupola run --command 'gdal_translate {input} {output}' --output '{stem}.png' 'data/*.tif'",
    )(run)
