"""Notebooks that survive, against JupyterLab as it comes: what is missing or doubled after a loss.

Run it with the platform's interpreter: ``python benchmarks/survive.py [SCENARIO ...] [--short] [--bare]``. A real Chromium opens a notebook
that prints a line a second, moves a progress bar, draws a figure and has cells queued behind it; then the browser is killed, the
network cut, the server or the whole session killed (``tests/support/survive.py`` has the scenarios). On a fresh profile, or on the
page that was left open, each expected output is looked for, in the page and in the file: it must be there once and in its place. Ours
is a session of a platform; the peer is JupyterLab of the same environment, without our settings.

``--short`` takes seconds where the full form takes minutes; ``--bare`` runs ours without a platform. Two figures stand beside: the memory of a guardian, and
the time that each executed cell takes longer. The table is written to ``benchmarks/survive.md``; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surviving.costs import added_latency, guardian_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from support import survive
from support.platform import ENVIRONMENTS, Platform
from support.survive_labs import OursLab, StockLab
from support.survive_platform import SessionLab

TABLE = Path(__file__).with_name("survive.md")
LONG = "killed-long"
CELLS = 200
KERNELS = 3
MEMORY_LIMIT, LATENCY_LIMIT = 20, 10
"""MB of a guardian, and milliseconds of a cell."""
HEAD = """\
Written by `python benchmarks/survive.py`: the share of the expected outputs that is missing or doubled, in the page and in the file together, and
what else was not as it should be (counts, busy marks, dialogs that stay, the state of the kernel).

| what happens | Cupola | JupyterLab |
|---|---|---|
"""

Side = tuple[str, Any]
_printing = threading.Lock()


def say(side: str, outcome: survive.Outcome) -> None:
    """Tell what came of a scenario."""
    with _printing:
        print(f"{side}: {outcome.told()}", flush=True)


def play(side: str, lab: Any, name: str, pace: survive.Pace) -> survive.Outcome:
    """Run one scenario and tell what came of it."""
    outcome = survive.play(lab, name, pace)
    say(side, outcome)
    return outcome


def python_of(lab: SessionLab) -> Path:
    """Return the interpreter of the environment in which a session runs."""
    digest = str(lab.client("session", lab.session).version).removeprefix("sha256:")[:12]
    (found,) = ENVIRONMENTS.glob(f"*/{digest}/bin/python")
    return found


@contextlib.contextmanager
def sides(folder: Path, *, bare: bool) -> Iterator[tuple[list[Side], Path]]:
    """Give both sides, each twice: the second is for what takes long; and the interpreter of the Lab."""
    with contextlib.ExitStack() as stack:

        def started(lab: Any) -> Any:
            lab.start()
            stack.callback(lab.stop)
            return lab

        if bare:
            python = Path(sys.executable)
            mine = [started(OursLab(folder / f"ours-{number}")) for number in range(2)]
        else:
            place = Platform(folder / "platform", settings="profile:\n  sessions: 4\n")
            stack.callback(place.clean)
            place.start()
            mine = [started(SessionLab(place)) for _ in range(2)]
            python = python_of(mine[0])
        theirs = [started(StockLab(folder / f"peer-{number}", python)) for number in range(2)]
        yield [("ours", mine[0]), ("peer", theirs[0]), ("ours", mine[1]), ("peer", theirs[1])], python


def run(names: list[str], pace: survive.Pace, folder: Path, *, bare: bool) -> tuple[dict[Any, Any], Path]:
    """Run scenarios on both sides; what takes a quarter of an hour goes on beside the others, in servers of its own."""
    found: dict[tuple[str, str], survive.Outcome] = {}
    with sides(folder, bare=bare) as (labs, python), ThreadPoolExecutor(2) as beside:
        waiting: dict[str, Future[survive.Outcome]] = {}
        if LONG in names:
            for side, lab in labs[2:]:
                waiting[side] = beside.submit(play, side, lab, LONG, pace)
        for name in names:
            for side, lab in labs[:2]:
                if name != LONG:
                    found[name, side] = play(side, lab, name, pace)
        for side, future in waiting.items():
            found[LONG, side] = future.result()
    return found, python


def costs(python: Path, folder: Path) -> list[dict[str, Any]]:
    """Measure on servers without a platform, so that nothing else is in the way."""
    ours, plain = OursLab(folder / "costs", python), StockLab(folder / "plain", python)
    try:
        ours.start()
        plain.start()
        memory = guardian_memory(ours, KERNELS)
        mine, theirs, more = added_latency(ours, plain, CELLS)
    finally:
        ours.stop()
        plain.stop()
    rss, pss = (round(max(one[place] for one in memory), 1) if memory else "none" for place in (0, 1))
    added = round(more, 2)
    return [
        {
            "title": "survive: memory of a guardian",
            "ours": rss,
            "peer": f"limit {MEMORY_LIMIT}",
            "ratio": round(float(rss) / MEMORY_LIMIT, 3) if memory else "none",
            "unit": f"MB resident (its own share: {pss})",
            "target": 1.0,
            "runs": KERNELS,
        },
        {
            "title": "survive: time of a trivial cell",
            "ours": round(mine, 2),
            "peer": round(theirs, 2),
            "ratio": round(mine / theirs, 3),
            "unit": f"ms, {added} more",
            "target": f"{LATENCY_LIMIT} ms more",
            "runs": CELLS,
        },
    ]


def title(name: str, pace: survive.Pace) -> str:
    """Return what a scenario is called in the table."""
    return survive.SCENARIOS[name].title.format(away=pace.away, longer=pace.longer, cut=pace.cut)


def cell(outcome: survive.Outcome) -> str:
    """Return what the table says of a scenario on one side."""
    share = f"{100 * outcome.share:.1f} %" if outcome.bad else "**0 %**"
    signs = len(outcome.signs)
    return f"{share} ({outcome.bad} of {outcome.expected})" + (f", {signs} wrong signs" if signs else "")


def write_table(found: dict[Any, survive.Outcome], pace: survive.Pace, more: list[dict[str, Any]]) -> str:
    """Return the page for the docs."""
    names = list(dict.fromkeys(name for name, _ in found))
    rows = [
        f"| {title(name, pace)} | {cell(found[name, 'ours'])} | {cell(found[name, 'peer'])} |"
        for name in names
    ]
    rows += [
        f"| {row['title'].partition(': ')[2]} | {row['ours']} {row['unit']} | {row['peer']} |" for row in more
    ]
    return HEAD + "\n".join(rows) + "\n"


def share(found: dict[Any, survive.Outcome], side: str) -> float:
    """Return the share of all scenarios of one side."""
    mine = [outcome for (_, one), outcome in found.items() if one == side]
    return round(sum(one.bad for one in mine) / max(1, sum(one.expected for one in mine)), 4)


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(survive.SCENARIOS))
    parser.add_argument("--short", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--bare", action="store_true", help="ours without a platform")
    said = parser.parse_args()
    pace = survive.SHORT if said.short else survive.FULL
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
    with tempfile.TemporaryDirectory(prefix="cupola-survive-") as place:
        found, python = run(said.scenarios or list(survive.SCENARIOS), pace, Path(place), bare=said.bare)
        more = costs(python, Path(place))
    text = write_table(found, pace, more)
    print(text)
    if not said.short and not said.scenarios:
        TABLE.write_text(text)
    signs = sum(len(outcome.signs) for (_, side), outcome in found.items() if side == "ours")
    ours = share(found, "ours")
    told = {
        "name": "survive",
        "ours": ours,
        "peer": share(found, "peer"),
        "ratio": ours,
        "unit": f"of the expected outputs missing or doubled, {len(found) // 2} scenarios; {signs} other wrong signs",
        "target": 0,
        "runs": 1,
        "machine": machine,
        "also": [row | {"machine": machine} for row in more],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
