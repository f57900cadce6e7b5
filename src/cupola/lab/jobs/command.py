"""Programs that are no Python as the function of a job: ``command="isis2std from={input} to={output}"``.

This module is loaded by every task of such a job, so it uses the standard library alone.
"""

from __future__ import annotations

import difflib
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cupola.exceptions import InputError
from cupola.lab.jobs.failure import ToldError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Command", "CommandError", "CommandInput", "plan_command"]

PLACES = ("input", "output", "stem", "name", "parent", "number")
"""What may stand in braces: the input, where its output goes, and as pathlib calls the parts of its name."""

_PLACE = re.compile(r"\{(\w+)\}")
_QUOTES = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*\"""", re.DOTALL)
TAIL_LINES, TAIL_BYTES = 12, 8_192
"""How much of what a program said last is told when it failed."""
_LOOK_S = 0.05
_SHELL_CODES = {
    126: " (a program may not be started)",
    127: " (a program was not found)",
    128 + signal.SIGPIPE: " (a program of the pipe ended before it had read all that it was given)",
}


class CommandError(ToldError):
    """The program failed for an input; there is no line of Python to show."""


@dataclass(frozen=True)
class CommandInput:
    """One input of a command."""

    number: int
    input: str
    output: str | None
    """Where its output goes, whole; nothing for a command that writes none."""

    def values(self, output: str | None) -> dict[str, str]:
        """Return what stands for each placeholder; `output` is where the program writes meanwhile."""
        path = Path(self.input)
        return {
            "input": self.input,
            "output": output or "",
            "stem": path.stem,
            "name": path.name,
            "parent": str(path.parent),
            "number": str(self.number),
        }


@dataclass(frozen=True)
class Command:
    """The function that such a job runs."""

    words: tuple[str, ...]
    """The program and its arguments, with placeholders; with `shell` one text."""
    shell: bool = False

    @property
    def __name__(self) -> str:
        """The program's name: the job is called so where nothing is said."""
        first = self.words[0].split()[0] if self.shell else self.words[0]
        return os.path.basename(first)[:100]  # noqa: PTH119 - no path is meant, only its last part

    @property
    def text(self) -> str:
        """The command as a person would type it."""
        return self.words[0] if self.shell else shlex.join(self.words)

    def __call__(self, one: CommandInput) -> Path | None:
        """Run the program on one input and return the path of its output; an output that is there is kept.

        Raises
        ------
        CommandError
            The program is missing, failed or wrote nothing.
        """
        if one.output is None:
            self._run(one, None)
            return None
        output = Path(one.output)
        if _is_there(output):
            print(f"{output} is there already")  # noqa: T201 - the task's log
            return output
        with _aside(output) as folder:
            self._run(one, str(folder / output.name))
            _move(folder, output, program=self.__name__)
        return output

    def _run(self, one: CommandInput, output: str | None) -> None:
        arguments = self._filled(one.values(output))
        print(f"$ {arguments[-1] if self.shell else shlex.join(arguments)}", flush=True)  # noqa: T201
        try:
            process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        except FileNotFoundError as error:
            raise CommandError(*self._missing(arguments[0])) from error
        except OSError as error:
            said = f"The program {arguments[0]!r} cannot be started: {error.strerror or error}."
            raise CommandError(said, f"{self.__name__}: cannot be started") from error
        try:
            said = _listen(process)
        except BaseException:
            process.kill()
            raise
        finally:
            code = process.wait()
        if code:
            raise CommandError(*self._why(code, said))

    def _filled(self, values: dict[str, str]) -> list[str]:
        """Return what to start: each word is one argument whatever a file is called."""
        if not self.shell:
            return [_fill(word, values) for word in self.words]
        quoted = {name: shlex.quote(value) for name, value in values.items()}
        bash = shutil.which("bash")
        # A pipe fails where any of its programs does, as Snakemake has it; a plain sh cannot tell.
        start = [bash, "-o", "pipefail", "-c"] if bash else ["/bin/sh", "-c"]
        return [*start, _fill(self.words[0], quoted)]

    def _missing(self, program: str) -> tuple[str, str]:
        said = (
            f"The program {program!r} was not found where the tasks run: install it in your session, "
            "start the job from a datalab that has it, or give its whole path."
        )
        return said, f"{self.__name__}: not found"

    def _why(self, code: int, said: str) -> tuple[str, str]:
        """Return the message and the one line by which failures are alike."""
        how = f"was ended by {_signal(-code)}" if code < 0 else f"ended with exit code {code}"
        if self.shell:
            how += _SHELL_CODES.get(code, "")
        told = f":\n{said}" if said else " and said nothing."
        return f"{self.__name__} {how}{told}", f"{self.__name__}: {how}"


def plan_command(
    command: str | Sequence[str],
    inputs: Sequence[object],
    *,
    outputs: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    shell: bool = False,
) -> tuple[Command, list[CommandInput]]:
    """Return the function and the inputs of a job that runs a program.

    Parameters
    ----------
    command
        The program and its arguments, with placeholders.
    inputs
        Names of files, or whatever the program takes.
    outputs
        Pattern of the outputs' names.
    folder
        Where they go; the present folder where nothing is said.
    shell
        Whether the command is one for the shell.

    Raises
    ------
    InputError
        The command, the pattern or two outputs cannot be.
    """
    made = Command(_words(command, shell=shell), shell=shell)
    text = " ".join(made.words)
    _check_places(text, "command")
    wanted = "{output}" in text
    if not wanted and (outputs is not None or folder is not None):
        raise InputError(
            "The command does not say {output}: write it where the program takes the name of the file that it writes."
        )
    if wanted and outputs is None and folder is None:
        raise InputError(
            "The command writes {output}, and nothing says where: add outputs='{stem}.tif' or folder='results'."
        )
    # Before it is filled in: a file may be called ~.
    pattern = "{name}" if outputs is None else os.path.expanduser(outputs)  # noqa: PTH111
    _check_places(pattern, "pattern of outputs", without="output")
    base = os.path.abspath(Path(folder or ".").expanduser())  # noqa: PTH100 - links stay as they are
    planned = [CommandInput(number, _text(value), None) for number, value in enumerate(inputs)]
    if not wanted:
        return made, planned
    planned = [CommandInput(one.number, one.input, _output_of(one, pattern, base)) for one in planned]
    _check_outputs(planned)
    return made, planned


def _words(command: str | Sequence[str], *, shell: bool) -> tuple[str, ...]:
    """Return the words of a command; quotes in it are those of a shell."""
    if shell:
        if not isinstance(command, str) or not command.strip():
            raise InputError("With shell=True the command is one text, such as 'sort {input} > {output}'.")
        for quoted in _QUOTES.findall(command):
            for name in _PLACE.findall(quoted):
                if name in PLACES:
                    raise InputError(
                        f"Leave the quotes around {{{name}}} away: it is quoted for you, whatever the file is called."
                    )
        return (command,)
    try:
        words = shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
    except ValueError as error:
        raise InputError(f"The command {command!r} cannot be read: {error}.") from None
    if not words or not words[0]:
        raise InputError("The command is empty: write one such as 'gdal_translate {input} {output}'.")
    return tuple(words)


def _check_places(text: str, what: str, without: str = "") -> None:
    """Refuse what was meant as a placeholder; other braces (of awk, say) are the program's own."""
    known = [name for name in PLACES if name != without]
    for name in _PLACE.findall(text):
        if name == without:
            raise InputError(f"The {what} cannot say {{{name}}}: use {_listed(known)}.")
        near = difflib.get_close_matches(name, known, 1, 0.75)
        if name not in known and near:
            raise InputError(f"The {what} says {{{name}}}: did you mean {{{near[0]}}}?")


def _output_of(one: CommandInput, pattern: str, base: str) -> str:
    name = _fill(pattern, one.values(None))
    path = os.path.normpath(os.path.join(base, name))  # noqa: PTH118 - of very many
    if not name or name.endswith(("/", "/.", "/..")) or path == base:
        raise InputError(f"The output of {one.input!r} has no name: outputs={pattern!r} gives {name!r}.")
    return path


def _check_outputs(planned: Sequence[CommandInput]) -> None:
    """Refuse outputs that would overwrite each other or an input."""
    sources = {os.path.abspath(one.input): one.input for one in planned}  # noqa: PTH100
    known: dict[str | None, str] = {}
    for one in planned:
        if one.output in known:
            raise InputError(
                f"{known[one.output]!r} and {one.input!r} would both be written to {one.output}: "
                "tell them apart in outputs=, with {number} or {parent}."
            )
        if one.output in sources:
            raise InputError(
                f"The output of {one.input!r} would overwrite the input {sources[one.output]!r}: "
                "give another name in outputs=, or a folder=."
            )
        known[one.output] = one.input


def _fill(text: str, values: dict[str, str]) -> str:
    """Put values into placeholders, in one go: a file whose name has braces stays what it is."""
    return _PLACE.sub(lambda match: values.get(match[1], match[0]), text)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)


def _text(value: object) -> str:
    text = os.fsdecode(value) if isinstance(value, bytes | os.PathLike) else str(value)
    if "\0" in text:
        raise InputError(f"The input {text!r} holds a zero byte, which no program can be given.")
    return text


def _is_there(output: Path) -> bool:
    """Say whether an output is whole. A power cut can leave an empty file under the final name."""
    try:
        return output.is_dir() or output.stat().st_size > 0
    except OSError:  # what else is wrong the writing tells
        return False


@contextmanager
def _aside(output: Path) -> Iterator[Path]:
    """Make a folder beside an output that the program writes into: the name of the file stays the program's business."""
    folder = output.with_name(f".{output.name}.{_where()}.{os.getpid()}.part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        _clear(output.parent)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    except OSError as error:
        raise CommandError(
            f"Nothing can be written to {output.parent} ({error.strerror}): say folder= of one that can, "
            "such as one in your home.",
            "output: cannot be written",
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@cache
def _clear(folder: Path) -> None:
    """Remove what tasks that were killed have left in a folder; once, as it may hold very many files."""
    for left in folder.glob(f".*.{_where()}.*.part"):
        owner = left.name.split(".")[-2]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(left, ignore_errors=True)


@cache
def _where() -> str:
    """Return what tells the numbers of processes apart: the host, and on it the container or slot that counts its own."""
    return f"{os.uname().nodename}-{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116 - it is a link to no file


def _move(folder: Path, output: Path, *, program: str) -> None:
    """Give what a program wrote its final names: what it wrote beside first, so that an output is never without it."""
    written = folder / output.name
    if not os.path.lexists(written):
        others = ", ".join(sorted(entry.name for entry in folder.iterdir()))
        raise CommandError(
            f"{program} ended well and did not write {{output}}"
            f"{f', but {others}' if others else ''}: it should have written {output.name}.",
            f"{program}: no output",
        )
    for entry in folder.iterdir():
        if entry != written:
            entry.replace(output.with_name(entry.name))
    written.replace(output)


def _listen(process: subprocess.Popen[bytes]) -> str:
    """Pass on what a program complains about, and return the last lines of it."""
    assert process.stderr is not None  # noqa: S101 - it was asked for
    kept = b""
    with process.stderr as pipe:
        while True:
            if select.select([pipe], [], [], _LOOK_S)[0]:
                data = os.read(pipe.fileno(), 65_536)
                if not data:
                    break
                _write_all(2, data)
                kept = (kept + data)[-TAIL_BYTES:]
            elif process.poll() is not None:
                break  # something that it left running holds the pipe open
    lines = kept.decode(errors="backslashreplace").strip().splitlines()
    return "\n".join(lines[-TAIL_LINES:])


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
