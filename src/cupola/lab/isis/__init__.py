"""USGS ISIS and the Ames Stereo Pipeline from notebooks and jobs.

::

    from cupola.lab import isis

    isis.run("spiceinit", from_=cube)
    statistics = isis.run("stats", from_=cube).values["Results"]
    point = isis.run("campt", from_=cube, sample=100, line=200).values["GroundPoint"]
    log = isis.read_asp_log("results/out-log-pc_align-11-21-0815-4711.txt")

`run` works where the programs are installed: in the datalab ``isis-asp``. What reads their output works everywhere.
"""

from __future__ import annotations

from cupola.lab.isis.asp import AspLog, Deviations, read_asp_log
from cupola.lab.isis.errors import Problem, explain, find_problems
from cupola.lab.isis.output import read_values
from cupola.lab.isis.programs import Run, run

__all__ = [
    "AspLog",
    "Deviations",
    "Problem",
    "Run",
    "explain",
    "find_problems",
    "read_asp_log",
    "read_values",
    "run",
]
