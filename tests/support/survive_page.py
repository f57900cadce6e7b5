"""A JupyterLab in a Chromium that can be killed; what it shows is read as a person would see it."""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
import time
from dataclasses import dataclass

import psutil
from playwright.sync_api import Error, Playwright, sync_playwright

from support.survive_work import Found

__all__ = ["PATIENCE", "Machine", "Notebook", "Seen", "until"]

CHROMIUM = "/usr/bin/chromium"
PATIENCE = 120
SECOND = 1000
TALL = {"width": 1280, "height": 2400}
"""All cells are on the screen: what is not, JupyterLab need not draw."""

LOOK = r"""() => {
  const shown = [...document.querySelectorAll('.jp-NotebookPanel')].find(one => one.offsetParent);
  const lines = text => text.split('\n').filter(line => line);
  const pieces = output => {
    const widget = output.querySelector('.jupyter-widgets');
    if (widget) {
      const bar = output.querySelector('.progress-bar'), label = output.querySelector('.widget-label:not(:empty)');
      const of = bar && output.querySelector('.widget-hprogress .progress');
      return ['widget', bar ? 'bar ' + bar.style.width : 'no bar', 'label ' + (label ? label.textContent : '')];
    }
    if (output.querySelector('img')) { return ['figure']; }
    const text = output.querySelector('.jp-RenderedText, .jp-RenderedHTMLCommon, .jp-Stdin');
    return text ? lines(text.textContent) : lines(output.textContent);
  };
  const cells = [...(shown ? shown.querySelectorAll('.jp-CodeCell') : [])].map(cell => ({
    source: (cell.querySelector('.cm-content') || {}).innerText || '',
    prompt: (cell.querySelector('.jp-InputPrompt') || {}).textContent || '',
    pieces: [...cell.querySelectorAll('.jp-OutputArea-child .jp-OutputArea-output, .jp-OutputArea-stdin-item')].flatMap(pieces),
    words: cell.textContent,
  }));
  return {
    cells,
    dialogs: [...document.querySelectorAll('.jp-Dialog')].map(one => one.innerText),
    status: (document.querySelector('#jp-main-statusbar') || {}).innerText || '',
    notes: [...document.querySelectorAll('.Toastify__toast, .cupola-guardian, [class*=cupola-]')].map(one => one.innerText),
    said: [...document.querySelectorAll('.jp-NotebookPanel-toolbar, .jp-NotebookPanel-notifications, #jp-main-statusbar, [role=status], [role=alert], [role=region], [role=dialog]')].map(one => one.innerText).join('\n'),
    dirty: !!document.querySelector('.lm-TabBar-tab.jp-mod-current.jp-mod-dirty'),
  };
}"""


def until(question, what, seconds: float = PATIENCE):
    """Wait until `question` says yes; return what it said."""
    end = time.monotonic() + seconds
    while not (said := question()):
        assert time.monotonic() < end, (
            f"this did not happen in {seconds:.0f} s: {what() if callable(what) else what}"
        )
        time.sleep(0.1)
    return said


@dataclass
class Seen(Found):
    """What a page showed at one moment."""

    dialogs: list[str] | None = None
    kernel: str = ""
    """``idle``, ``busy``, ``unknown``, ``connecting``..., as the status bar says."""
    notes: list[str] | None = None
    said: str = ""
    """All text on the screen but for the cells."""
    words: list[str] | None = None
    sources: list[str] | None = None
    dirty: bool = False

    @property
    def busy(self) -> list[int]:
        """The cells that are marked as running or waiting."""
        return [place for place, prompt in enumerate(self.prompts) if prompt == "*"]


class Driver(threading.local):
    """Playwright, once for all machines of a thread: it cannot be there twice."""

    playwright: Playwright | None = None
    machines = 0

    @classmethod
    def take(cls) -> Playwright:
        """Return it, started where it is not there."""
        one = _DRIVER
        if one.playwright is None:
            one.playwright = sync_playwright().start()
        one.machines += 1
        return one.playwright

    @classmethod
    def leave(cls) -> None:
        """Stop it after the last machine."""
        one = _DRIVER
        one.machines -= 1
        if not one.machines and one.playwright is not None:
            with contextlib.suppress(Error):
                one.playwright.stop()
            one.playwright = None


_DRIVER = Driver()


class Machine:
    """A computer with a browser that nobody has used."""

    def __init__(self, *options: str, viewport: dict[str, int] | None = None) -> None:
        # Chromium passes over what it does not know, and here is found by it.
        self._sign = f"--survive={secrets.token_hex(8)}"
        common = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
        self._browser = Driver.take().chromium.launch(
            executable_path=CHROMIUM, args=[*common, self._sign, *options]
        )
        self._context = self._browser.new_context(viewport=viewport or TALL)
        self._context.set_default_timeout(PATIENCE * SECOND)
        self._here = True

    def page(self):
        """Open a tab."""
        return self._context.new_page()

    def kill(self) -> None:
        """End the browser as a power cut does: it tells nobody."""
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.close()

    def _processes(self) -> list[psutil.Process]:
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if self._sign in process.cmdline():
                    return [process, *process.children(recursive=True)]
        return []

    def close(self) -> None:
        """End what is left of it."""
        with contextlib.suppress(Error):
            self._browser.close()
        if self._here:
            self._here = False
            Driver.leave()


class Notebook:
    """A notebook that a page has open."""

    def __init__(self, page) -> None:
        self.page = page

    def wait(self) -> None:
        """Wait until it is on the screen."""
        self.page.locator(".jp-Notebook .jp-CodeCell:visible").first.wait_for()

    def ready(self) -> None:
        """Wait until it has a kernel: before, running asks which one to take."""
        self.wait()
        until(lambda: self.look().kernel == "idle", lambda: f"the kernel is idle: {self.look().kernel}")

    def look(self) -> Seen:
        """Return what is on the screen."""
        raw = self.page.evaluate(LOOK)
        state = re.search(r"\|\s*(\w+)", raw["status"])
        return Seen(
            outputs=[[_piece(piece) for piece in cell["pieces"]] for cell in raw["cells"]],
            prompts=[re.sub(r"[\[\]:\s]", "", cell["prompt"]) for cell in raw["cells"]],
            dialogs=raw["dialogs"],
            kernel=state[1].lower() if state else "none",
            notes=[note for note in raw["notes"] if note],
            words=[cell["words"] for cell in raw["cells"]],
            sources=[cell["source"] for cell in raw["cells"]],
            said=raw["said"],
            dirty=raw["dirty"],
        )

    def select(self, cell: int) -> None:
        """Select a cell, without writing in it."""
        self.page.locator(".jp-CodeCell:visible .jp-InputPrompt").nth(cell).click()

    def run(self, first: int, last: int | None = None) -> None:
        """Run cells, one after the other, as Shift and Enter do."""
        self.select(first)
        for _ in range(first, first if last is None else last):
            self.page.keyboard.press("Shift+Enter")
        self.page.keyboard.press("Control+Enter")  # the other one would make a new cell behind the last

    def lines(self, cell: int) -> int:
        """Return how many lines of a cell are on the screen."""
        seen = self.look().outputs
        return sum(piece.startswith("line ") for piece in seen[cell]) if cell < len(seen) else 0

    def save(self) -> None:
        """Save, and wait until there is nothing to save any more or something stands in the way."""
        self.page.keyboard.press("Escape")
        self.page.locator(".lm-MenuBar-item", has_text="File").click()
        self.page.locator(".lm-Menu-item[data-command='docmanager:save']").click()
        until(lambda: not (seen := self.look()).dirty or seen.dialogs, "it is saved")


def _piece(piece: str) -> str:
    return piece.removesuffix("\r")
