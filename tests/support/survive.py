"""Ways to lose a notebook that computes, each with what must be there afterwards.

The same scenarios run against JupyterLab as it comes and against ours, in seconds in the tests and in minutes in
``benchmarks/survive.py``. A scenario looks at the page and at the file, as a person would; how far the kernel really came it learns from
notes that the cells write for themselves.
"""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
from playwright.sync_api import Error

from support.survive_page import Machine, Notebook, Seen, until
from support.survive_wire import RESET, SILENT
from support.survive_work import (
    AFTER,
    FIRST,
    KEPT,
    LONG,
    SECOND,
    SETUP,
    Work,
    missing_or_doubled,
    of_file,
    units,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.survive_labs import Lab

__all__ = ["SCENARIOS", "Outcome", "Pace", "Scenario", "play"]

STALLED = 20
"""Seconds without a sign of a kernel, after which nothing more is to be expected of it."""
SAVED_WITHIN = 8
UNCLEAR = {"unknown", "connecting", "disconnected", "none", "dead", "initializing"}
LOST = re.compile(r"\b(lost|ended before|did not survive|was gone|interrupted)\b", re.IGNORECASE)
"""What a page may say of a kernel that ended in the middle."""


@dataclass(frozen=True)
class Pace:
    """How long things take.

    ``before`` is the number of lines that are on the screen when it happens, ``settle`` the time in seconds in which a page may
    come to what it should show, after the kernel is done.
    """

    lines: int
    pause: float
    before: int
    look: float
    """Until the page must know what its kernel does."""
    held: bool
    """Whether a cell that is to run still at the return waits for it: then a slow machine does not matter."""
    away: float
    longer: float
    cut: float
    settle: float = 30
    snapshot: float = 4
    """Until the variables of a cell that has ended are kept."""


SHORT = Pace(lines=24, pause=0.25, before=6, look=60, held=True, away=7, longer=9, cut=3, settle=60)
FULL = Pace(lines=40, pause=1.0, before=6, look=5, held=False, away=50, longer=900, cut=20)


@dataclass
class Outcome:
    """What came of a scenario."""

    scenario: str
    expected: int = 0
    wrong: list[str] = field(default_factory=list)
    """Outputs that are missing or doubled, in the page and in the file."""
    signs: list[str] = field(default_factory=list)
    """Whatever else is not as it should be: counts, busy marks, dialogs, the kernel's state."""

    @property
    def share(self) -> float:
        """The share of the expected outputs that is missing or doubled."""
        return self.bad / self.expected if self.expected else 0.0

    @property
    def bad(self) -> int:
        """How many are; whatever is there beside them does not count more than what it replaces."""
        return min(len(self.wrong), self.expected)

    def told(self) -> str:
        """Return it in words, for the message of a test that failed."""
        few = [*self.wrong[:12], *([f"... {len(self.wrong)} in all"] if len(self.wrong) > 12 else [])]
        return "\n".join([f"{self.scenario}: {len(self.wrong)} of {self.expected} wrong", *few, *self.signs])


class Scene:
    """One run of a scenario: a notebook in a Lab, whoever looks at it, and what was seen."""

    def __init__(self, lab: Lab, pace: Pace, name: str) -> None:
        self.lab, self.pace = lab, pace
        self.file = f"{name}.ipynb"
        held = pace.held and SCENARIOS[name].computing
        self.work = Work(pace.lines, pace.pause, held, f"{name}.txt")
        self.outcome = Outcome(name)
        self.machines: list[Machine] = []
        self.notebook: Notebook

    # -- what happens ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Open the notebook and run its first cells; go on when some lines are on the screen."""
        for name in (self.work.notes, self.work.go):
            self.lab.notebook_file(name).unlink(missing_ok=True)
        self.lab.write(self.file, self.work.notebook())
        self.arrive()
        self.notebook.ready()
        self.notebook.run(SETUP)
        until(lambda: "1" in self.notebook.look().prompts, "the first cell has run")
        time.sleep(self.pace.snapshot)
        self.notebook.run(LONG, SECOND)
        until(
            lambda: self.notebook.lines(LONG) >= self.pace.before,
            lambda: f"lines appear: {self.notebook.look()}",
        )

    def leave(self) -> None:
        """Lose the machine with its browser."""
        self.machines.pop().kill()

    def arrive(self) -> None:
        """Open the notebook on a machine that has never been here."""
        self.machines.append(self.lab.machine())
        self.notebook = self.lab.open(self.machines[-1], self.file)
        self.notebook.wait()

    def end(self) -> None:
        """Leave no browser behind."""
        while self.machines:
            self.machines.pop().kill()

    # -- how far it is -----------------------------------------------------------------------------------------

    @property
    def notes_file(self):
        return self.lab.notebook_file(self.work.notes)

    def noted(self) -> list[str]:
        """Return what the cells have noted."""
        with contextlib.suppress(OSError):
            return self.notes_file.read_text().split("\n")[:-1]
        return []

    def kernel_done(self, word: str = "second") -> None:
        """Wait until the kernel has done all it was asked for, or no longer does anything."""
        last, since = -1, time.monotonic()
        while word not in self.noted():
            if len(self.noted()) != last:
                last, since = len(self.noted()), time.monotonic()
            if time.monotonic() - since > STALLED:
                self.outcome.signs.append(f"the kernel stopped at {self.noted()[-1:]}")
                return
            time.sleep(0.1)

    # -- what is seen ------------------------------------------------------------------------------------------

    def look_soon(self, *, computing: bool) -> None:
        """Look at the page as it is a moment after the return."""
        end = time.monotonic() + self.pace.look
        while True:
            seen = self.notebook.look()
            marked = set(seen.busy) >= {LONG, FIRST, SECOND} or not computing or self.through(LONG)
            clear = seen.kernel not in UNCLEAR
            if (clear and marked) or time.monotonic() > end:
                break
            time.sleep(0.1)
        if not clear:
            self.outcome.signs.append(f"{self.pace.look} s after the return the kernel is {seen.kernel!r}")
        if not marked:
            self.outcome.signs.append(f"cells that run or wait are not marked: {seen.prompts}")
        if computing:
            self.look_live(seen)

    def through(self, cell: int) -> bool:
        """Whether the kernel is done with a cell."""
        return {LONG: "long", SECOND: "second"}[cell] in self.noted()

    def look_live(self, seen: Seen) -> None:
        """Look whether the cell that runs goes on before one's eyes."""
        missed = self.through(LONG)
        self.lab.notebook_file(self.work.go).touch()
        still = {"line", "label"}
        before = seen.outputs[LONG] if len(seen.outputs) > LONG else []
        end = time.monotonic() + (self.pace.look if self.work.held else 3 + 3 * self.pace.pause)
        while still and not missed and time.monotonic() < end:
            outputs = self.notebook.look().outputs
            after = outputs[LONG] if len(outputs) > LONG else []
            still = {one for one in still if _starting(before, one) == _starting(after, one)}
            missed = self.through(LONG) and not self.work.held
        if still and not missed:
            self.outcome.signs.append(
                f"the cell runs, but its {' and its '.join(sorted(still))} stands still"
            )

    def settled(self, expected: list[list[str]], last: int) -> Seen:
        """Wait until the page shows all, but not for ever; return what it shows then."""
        end = time.monotonic() + self.pace.settle
        while True:
            seen = self.notebook.look()
            wrong = missing_or_doubled(expected[: last + 1], seen.outputs[: last + 1])
            if (not wrong and not seen.busy and seen.kernel == "idle") or time.monotonic() > end:
                return seen
            time.sleep(0.25)

    def settled_lost(self, expected: list[list[str]]) -> Seen:
        """The same where a kernel was lost: a line more or less does not matter here."""
        end = time.monotonic() + self.pace.settle
        while True:
            seen = self.notebook.look()
            there = [piece for cell in seen.outputs for piece in cell]
            if all(piece in there for cell in expected[:KEPT] for piece in cell) and not seen.busy:
                return seen
            if time.monotonic() > end:
                return seen
            time.sleep(0.25)

    def count(self, where: str, expected: list[list[str]], found: list[list[str]]) -> None:
        self.outcome.expected += units(expected)
        self.outcome.wrong += [f"{where}, {text}" for text in missing_or_doubled(expected, found)]

    def look_around(self, seen: Seen, counts: list[str]) -> None:
        """Note whatever is on the screen that should not be."""
        if seen.busy:
            self.outcome.signs.append(f"still marked as running: {seen.prompts}")
        elif seen.prompts[: len(counts)] != counts:
            self.outcome.signs.append(f"counts are {seen.prompts}, not {counts}")
        if seen.dialogs:
            self.outcome.signs.append(f"a dialog is left: {seen.dialogs}")
        if seen.kernel != "idle":
            self.outcome.signs.append(f"at the end the kernel is {seen.kernel!r}")

    def run_after(self) -> None:
        """Run the last two cells, which need what the others made."""
        with contextlib.suppress(Error):
            while self.notebook.look().dialogs:  # told already; a person would answer it
                self.notebook.page.locator(".jp-Dialog .jp-Dialog-button").last.click(timeout=3000)
            self.notebook.run(AFTER, KEPT)

    def finish(self) -> None:
        """See that all is there, run the rest, save, and see what is in the file."""
        self.kernel_done()
        expected = self.work.expected(page=True)
        seen = self.settled(expected, SECOND)
        self.look_around(seen, ["1", "2", "3", "4"])
        self.run_after()
        seen = self.settled(expected, KEPT)
        self.count("page", expected, seen.outputs)
        if not self.outcome.signs:
            self.look_around(seen, ["1", "2", "3", "4", "5", "6"])
        self.look_at_file(self.work.expected(page=False), ["1", "2", "3", "4", "5", "6"])

    def look_at_file(self, expected: list[list[str]], counts: list[str]) -> None:
        """Save as a person does, and look at what lies on the disk soon afterwards."""
        with contextlib.suppress(Error, AssertionError):
            self.notebook.save()
        # A save that was under way when we asked for one is told to us as ours.
        end = time.monotonic() + SAVED_WITHIN
        while True:
            found = of_file(self.lab.read(self.file))
            wrong = missing_or_doubled(expected, found.outputs)
            if (not wrong and found.prompts[: len(counts)] == counts) or time.monotonic() > end:
                break
            time.sleep(0.25)
        self.count("file", expected, found.outputs)
        if found.prompts[: len(counts)] != counts:
            self.outcome.signs.append(f"counts in the file are {found.prompts}, not {counts}")
        if dialogs := self.notebook.look().dialogs:
            self.outcome.signs.append(f"a dialog after saving: {dialogs}")


def _starting(pieces: list[str], word: str) -> list[str]:
    return [piece for piece in pieces if piece.startswith(word)]


# -- the scenarios ---------------------------------------------------------------------------------------------


def killed(scene: Scene) -> None:
    """The browser is killed; somebody comes back from another machine when all is done."""
    scene.begin()
    scene.leave()
    time.sleep(scene.pace.away)
    scene.arrive()
    scene.look_soon(computing=False)
    scene.finish()


def killed_long(scene: Scene) -> None:
    """The same, after a long time."""
    scene.begin()
    scene.leave()
    time.sleep(scene.pace.longer)
    scene.arrive()
    scene.look_soon(computing=False)
    scene.finish()


def mid_cell(scene: Scene) -> None:
    """Somebody comes back from another machine while the cell still runs."""
    scene.begin()
    scene.leave()
    until(lambda: len(scene.noted()) >= scene.pace.before + scene.pace.lines // 5, "the cell goes on")
    scene.arrive()
    scene.look_soon(computing=True)
    scene.finish()


def cut(scene: Scene, how: str = RESET) -> None:
    """The network is cut; the page stays open and nobody touches it."""
    scene.begin()
    scene.lab.wire.cut(how)
    time.sleep(scene.pace.cut)
    scene.lab.wire.mend()
    connected(scene)
    scene.look_soon(computing=True)
    scene.finish()


def cut_silent(scene: Scene) -> None:
    """The network swallows everything, so that neither side knows for a while."""
    cut(scene, SILENT)


def connected(scene: Scene) -> None:
    """Wait until the page has found the server again: JupyterLab waits longer and longer between its tries."""
    before = scene.lab.wire.passed
    with contextlib.suppress(AssertionError):
        until(lambda: scene.lab.wire.passed > before, "the page connects again", 40)


def crash(scene: Scene) -> None:
    """The server is killed in the middle of a cell, and comes back; the page stays open."""
    scene.begin()
    scene.lab.kill_server()
    time.sleep(scene.pace.cut / 2)
    scene.lab.back()
    connected(scene)
    scene.look_soon(computing=True)
    scene.finish()


def crash_new_page(scene: Scene) -> None:
    """The server and the browser are killed in the middle of a cell; a new page comes later."""
    scene.begin()
    scene.leave()
    scene.lab.kill_server()
    time.sleep(scene.pace.cut / 2)
    scene.lab.back()
    scene.arrive()
    scene.look_soon(computing=True)
    scene.finish()


def lost(scene: Scene) -> None:
    """The whole session is lost in the middle of a cell, and started again: what was said is there, and what was lost is told."""
    scene.begin()
    until(lambda: len(scene.noted()) >= scene.pace.before + 2, "the cell goes on")
    scene.lab.lose()
    said = [word for word in scene.noted() if word.startswith("line")]
    scene.leave()
    scene.lab.again()
    scene.arrive()
    scene.look_soon(computing=False)
    sure = len(said) - 1  # the last line may not have left the kernel
    expected = scene.work.expected_of_lost(lines=sure)
    found = scene.settled_lost(expected)
    told(scene, found)
    scene.notebook.run(KEPT)
    found = scene.settled_lost(expected)
    scene.count("page", expected, without(found.outputs, said[-1:]))
    with contextlib.suppress(Error, AssertionError):
        scene.notebook.save()
    file = of_file(scene.lab.read(scene.file))
    scene.count("file", expected, without(file.outputs, said[-1:]))


def without(outputs: list[list[str]], optional: list[str]) -> list[list[str]]:
    """Leave out what may be there or not, and what a page shows beside outputs."""
    few = [
        [piece for piece in cell if piece not in optional and not piece.startswith(("bar ", "label "))]
        for cell in outputs
    ]
    return [[piece for piece in cell if not LOST.search(piece)] for cell in few]


def told(scene: Scene, seen: Seen) -> None:
    """Look whether the page says what was lost."""
    if seen.busy:
        scene.outcome.signs.append(f"lost cells are marked as running: {seen.prompts}")
    if seen.dialogs:
        scene.outcome.signs.append(f"a dialog is left: {seen.dialogs}")
    if not LOST.search(" ".join([*(seen.notes or []), *(seen.words or []), seen.said])):
        scene.outcome.signs.append("nothing on the page says that something was lost")


@dataclass(frozen=True)
class Scenario:
    """One of them, with its name in the table."""

    name: str
    title: str
    run: Callable[[Scene], None]
    computing: bool = True
    """Whether the cell is to run still when somebody looks again."""


SCENARIOS = {
    one.name: one
    for one in (
        Scenario("killed", "browser killed, back after {away:.0f} s", killed, computing=False),
        Scenario("mid-cell", "browser killed, back while the cell runs", mid_cell),
        Scenario("cut", "network cut {cut:.0f} s, page left open", cut),
        Scenario("silent", "network silent {cut:.0f} s, page left open", cut_silent),
        Scenario("crash", "server killed, page left open", crash),
        Scenario("crash-new", "server and browser killed, new page", crash_new_page),
        Scenario("lost", "session lost with its kernels", lost, computing=False),
        Scenario("killed-long", "browser killed, back after {longer:.0f} s", killed_long, computing=False),
    )
}


def play(lab: Lab, name: str, pace: Pace) -> Outcome:
    """Run a scenario; an accident on the way counts as everything missing."""
    scene = Scene(lab, pace, name)
    try:
        SCENARIOS[name].run(scene)
    except (AssertionError, Error, httpx.HTTPError) as exc:
        scene.outcome.signs.append(f"{type(exc).__name__}: {str(exc)[:300]}")
        whole = units(scene.work.expected(page=True)) + units(scene.work.expected(page=False))
        scene.outcome.wrong += ["not seen"] * (whole - scene.outcome.expected)
        scene.outcome.expected = max(whole, scene.outcome.expected)
    finally:
        with contextlib.suppress(Exception):
            scene.lab.wire.mend()
        scene.end()
    return scene.outcome
