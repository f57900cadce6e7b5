"""``python -m cupola.lab.notebooks``: look at a notebook or start it as a job, for the session's Jupyter server.

One JSON object comes in, one goes out as the last line. It is a process of its own, with the Python that kernels have,
so that the server carries none of what packing a job loads.
"""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

from cupola.exceptions import CupolaError, InputError
from cupola.lab.notebooks.reading import Notebook, said_in_words

__all__ = ["answer"]


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Look at the notebook ``path``, or start it with what was typed into the form.

    Parameters
    ----------
    asked
        ``do`` (``look`` or ``start``), ``path``, and to start ``parameters`` (texts by name) and ``options``.
    """
    notebook = Notebook.read(Path(asked["path"]))
    if asked["do"] == "look":
        return {
            "engines": _engines(),
            "name": notebook.path.name,
            "tagged": notebook.tagged,
            "parameters": [
                {"name": one.name, "default": one.default, "help": one.help}
                for one in notebook.parameters or ()
            ],
        }
    return _start(notebook, asked["parameters"], asked["options"])


def _engines() -> list[dict[str, Any]]:
    """Return the batch engines that there are to choose from; none where the portal does not tell."""
    from cupola.lab.jobs.start import client

    try:
        found = client().engines()
    except CupolaError:
        # The form can do without: the start says what is wrong with the portal.
        return []
    return [
        {
            "name": one.name,
            "title": one.title,
            "default": one.default,
            "answers": one.answers,
            "text": one.summary,
        }
        for one in found
    ]


def _start(notebook: Notebook, typed: dict[str, str], options: dict[str, Any]) -> dict[str, Any]:
    from cupola.lab.notebooks.start import run_notebook

    defaults = {one.name: one.default for one in notebook.parameters or ()}
    # What nobody has changed is left to the notebook: a default may be more than a plain value.
    changed = {name: text for name, text in typed.items() if text.strip() != defaults.get(name, "").strip()}
    parameters = {name: said_in_words(name, text, defaults.get(name, "")) for name, text in changed.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the form says it
        job = run_notebook(notebook.path, parameters, **options)
    return {"id": job.id, "name": job.name}


def main() -> int:
    """Answer what standard input asks."""
    said = sys.stdout
    # Whatever prints (a .pth file, a sitecustomize of the user's) must not end up in the answer.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            told = answer(json.load(sys.stdin))
        except CupolaError as error:
            told = {"problem": str(error), "status": error.status}
        except (KeyError, TypeError, ValueError) as error:
            problem = InputError(
                f"The request is not understood ({type(error).__name__}: {error}): reload the page."
            )
            told = {"problem": str(problem), "status": problem.status}
    said.write(f"{json.dumps(told)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
