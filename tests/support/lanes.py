"""Several tests at once: which of them share a process, in which order they come, and which want the machine for themselves.

``make test`` runs three processes, more than there are cores, since tests mostly wait. Tests that take the container engine go
through one of them, since there is one engine and some tests kill it, and those that take a scheduler's pool through one, since each
process would start pools of its own; other files go to whichever process is free. A test that measures time
is marked ``@pytest.mark.alone``: it waits until the tests of the others are done, and the next ones there wait for it.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

__all__ = [
    "pytest_collection_modifyitems",
    "pytest_configure_node",
    "pytest_runtest_protocol",
    "pytest_xdist_make_scheduler",
]

ENGINE, POOLS = "engine", "pools"
LANES = {"engine": ENGINE, "htcondor_pool": POOLS, "slurm_pool": POOLS}
"""The fixtures that are one for all, and their lanes; a test that takes several goes where the first of them does."""
FOLDER = pytest.StashKey[Path]()
LATE = ("tests/browser/", "tests/system/", "tests/security/")
"""Files that take long; they are spread over the processes while there is much to spread."""


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process, before it starts, where to write which tests are in which lane: only it can find out."""
    if FOLDER not in node.config.stash:
        node.config.stash[FOLDER] = Path(tempfile.mkdtemp(prefix="cupola-lanes-"))
    node.workerinput["lane"] = str(node.config.stash[FOLDER] / "lanes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Bring the tests of a process that is one of several into the order in which they are handed out."""
    together = getattr(config, "workerinput", None)
    if together is None:
        return
    lanes = {item.nodeid: lane for item in items if (lane := _lane(item)) is not None}

    def rank(item: pytest.Item) -> tuple[bool, bool, bool]:
        lane = lanes.get(item.nodeid)
        # The engine's lane is the longest, so it begins first; the many short files at the end fill what is left.
        return lane != ENGINE, lane != POOLS, not item.nodeid.startswith(LATE)

    items.sort(key=rank)
    # Each process finds the same, so it does not matter which of them writes last.
    aside = Path(f"{together['lane']}-{together['workerid']}")
    aside.write_text(json.dumps(lanes))
    aside.replace(together["lane"])


def _lane(item: pytest.Item) -> str | None:
    names = getattr(item, "fixturenames", ())
    return next((lane for fixture, lane in LANES.items() if fixture in names), None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Return what hands tests out: a lane or a file as a whole, so that fixtures of a module are made once."""
    from xdist.scheduler import LoadScopeScheduling

    class Lanes(LoadScopeScheduling):
        def schedule(self) -> None:
            folder = config.stash.get(FOLDER, None)
            if folder is not None and folder.exists():
                self.lanes = json.loads((folder / "lanes").read_text())
                shutil.rmtree(folder)
            super().schedule()

        def _split_scope(self, nodeid: str) -> str:
            lane: str | None = self.lanes.get(nodeid)
            return lane or nodeid.partition("::")[0]

    return Lanes(config, log)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before the clock of a test's timeout starts
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let a test wait for its turn."""
    with _turn(item):
        return (yield)


@contextmanager
def _turn(item: pytest.Item) -> Iterator[None]:
    """Let a test wait for its turn where another process runs tests too."""
    together = getattr(item.config, "workerinput", None)
    if together is None:
        yield
        return
    folder = Path(item.config.rootpath, ".cache")
    folder.mkdir(exist_ok=True)
    alone = item.get_closest_marker("alone") is not None
    with ExitStack() as files:
        gate, room = (
            files.enter_context((folder / f"tests-{name}.lock").open("w")) for name in ("gate", "room")
        )
        # Whoever wants the room alone stands in the gate meanwhile, so that nobody goes in before.
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        if not alone:
            fcntl.flock(gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            # Closing would not do: a child that a test forked may have the files open still.
            fcntl.flock(room, fcntl.LOCK_UN)
            fcntl.flock(gate, fcntl.LOCK_UN)
