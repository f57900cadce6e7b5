"""The matrix of trust: what must hold, with one figure per row, written to a file at the end of a run.

A test that answers for a row is marked ``@pytest.mark.row(18)`` and asks for the fixture ``matrix``, which takes the
figure and fails where it is above the limit. A row whose test ran without giving a figure counts as failed.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

__all__ = ["Figure", "Row", "matrix", "pytest_sessionfinish", "pytest_testnodedown"]

FIGURES = pytest.StashKey["list[Figure]"]()


@dataclass(frozen=True)
class Figure:
    """One measured figure of a row."""

    row: int
    what: str
    value: float
    limit: float
    seen_red: bool
    """Whether the same run showed that the test fails with its defence switched off."""
    test: str

    @property
    def holds(self) -> bool:
        return self.value <= self.limit


class Row:
    """Takes the figures of one test."""

    def __init__(self, number: int, test: str, figures: list[Figure]) -> None:
        self.number = number
        self.test = test
        self.figures = figures
        self.given = 0

    def __call__(self, what: str, value: float, *, limit: float, seen_red: bool = False) -> None:
        """Note a figure, such as ``("reachable sockets beyond the list", 0, limit=0)``, and fail where it is too high."""
        figure = Figure(self.number, what, value, limit, seen_red, self.test)
        self.figures.append(figure)
        self.given += 1
        assert figure.holds, f"row {self.number}: {what} is {value:g}, at most {limit:g} are allowed"


@pytest.fixture
def matrix(request):
    """Take the figures of the row that the test is marked with."""
    mark = request.node.get_closest_marker("row")
    assert mark is not None, "a test that gives figures says of which row: @pytest.mark.row(NUMBER)"
    row = Row(mark.args[0], request.node.nodeid, request.config.stash.setdefault(FIGURES, []))
    yield row
    assert row.given, f"row {row.number} got no figure"


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Take the figures of one of several processes that run the tests."""
    told = getattr(node, "workeroutput", None) or {}
    node.config.stash.setdefault(FIGURES, []).extend(Figure(**figure) for figure in told.get("figures", ()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what this run found: one file per run, all rows in it."""
    config = session.config
    figures = config.stash.get(FIGURES, [])
    if not figures:
        return
    if hasattr(config, "workeroutput"):  # one of several processes: the first one writes
        config.workeroutput["figures"] = [asdict(figure) for figure in figures]
        return
    place = Path(os.environ.get("CUPOLA_MATRIX", config.rootpath / "matrix.json"))
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=config.rootpath, check=False
    ).stdout.strip()
    content = {
        "commit": commit,
        "machine": {"system": platform.platform(), "cores": os.cpu_count()},
        "rows": [
            {**asdict(figure), "holds": figure.holds}
            for figure in sorted(figures, key=lambda f: (f.row, f.what))
        ],
    }
    place.write_text(json.dumps(content, indent=1) + "\n")
