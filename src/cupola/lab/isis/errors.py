"""What ISIS says when it fails: a stack of lines, from what was tried down to what was wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Problem", "explain", "find_problems"]

_START = re.compile(r"\*\*(?P<kind>[A-Z][A-Z /]*)\*\*\s*(?P<text>.*)$")
_MESSAGE = re.compile(r'^\s*Message\s*=\s*"(?P<text>[^"]*)"', re.MULTILINE)
_GROUP = re.compile(r"^\s*Group\s*=\s*Error\s*$(?P<body>.*?)^\s*End_Group", re.MULTILINE | re.DOTALL)
_PLACE = re.compile(r"^\s*(in|at) \S+\.(cpp|h)\b.*$|^\s*\S+\.(cpp|h):\d+.*$")
_SHOWN = 3

_WAYS_OUT = (
    (re.compile(r"spiceinit", re.IGNORECASE), "run spiceinit on the cube first"),
    (
        re.compile(r"camera model|kernels? group|\[Instrument\]", re.IGNORECASE),
        "check that spiceinit has run on the cube and that the volume with ISIS data is mounted",
    ),
    (
        re.compile(r"No existing files found|\$(ISIS3?DATA|base)\b|\bISIS3?DATA\b", re.IGNORECASE),
        "mount the volume with ISIS data, and see that it has the data of this mission",
    ),
    (re.compile(r"Unable to open", re.IGNORECASE), "check that the file exists and can be read"),
    (re.compile(r"Unable to create|disk|write", re.IGNORECASE), "check that the folder exists and has room"),
    (re.compile(r"parameter", re.IGNORECASE), "check the program's parameters"),
)


@dataclass(frozen=True)
class Problem:
    """One line of the stack.

    ``kind`` is ISIS's word without stars, such as ``USER ERROR``; ``text`` its sentence.
    """

    kind: str
    text: str

    @property
    def fault_of_isis(self) -> bool:
        """Whether ISIS says that the fault is its own."""
        return self.kind == "PROGRAMMER ERROR"


def find_problems(text: str) -> list[Problem]:
    """Return the problems that ISIS names in `text`, in its order: what was tried first, the cause last.

    Both of its forms are known: lines that begin with ``**USER ERROR**`` and the like, and ``Group = Error`` with a
    ``Message``, as print files have it. Warnings are no problems.
    """
    found: list[Problem] = []
    for line in text.splitlines():
        if match := _START.search(line):
            found.append(Problem(match["kind"].strip(), match["text"].strip()))
        elif found and line.strip() and not _ends_a_problem(line):
            # A long sentence goes on in the next line.
            last = found[-1]
            found[-1] = Problem(last.kind, f"{last.text} {line.strip()}".strip())
    if not found:
        messages = [
            message["text"] for group in _GROUP.finditer(text) for message in _MESSAGE.finditer(group["body"])
        ]
        found = [Problem("ERROR", " ".join(message.split())) for message in messages]
    return [problem for problem in found if "WARNING" not in problem.kind]


def _ends_a_problem(line: str) -> bool:
    """Return whether a line below a problem belongs to something else."""
    return bool(_PLACE.match(line)) or "=" in line or line.lstrip().startswith(("Group", "Object", "End"))


def explain(program: str, problems: list[Problem]) -> str:
    """Return one sentence: what the program could not do, why, and the way out.

    Parameters
    ----------
    program
        Its name.
    problems
        What `find_problems` found; there must be some.
    """
    texts = [problem.text.rstrip(". ") for problem in problems]
    shown = texts if len(texts) <= _SHOWN else [texts[0], texts[-1]]
    sentence = f"{program}: " + ", because: ".join(dict.fromkeys(shown))
    # The cause knows best what to do; only where it says nothing, what stands above it is asked.
    for text in reversed(texts):
        for pattern, way_out in _WAYS_OUT:
            if pattern.search(text):
                return f"{sentence}; {way_out}"
    if any(problem.fault_of_isis for problem in problems):
        return f"{sentence}; ISIS calls this a fault of its own, so try other parameters or report it to its developers"
    return sentence
