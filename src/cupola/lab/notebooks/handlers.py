"""The way of "Run this notebook as a job" in the Lab: look at a notebook, start it, find the result.

The browser sends the Jupyter server's own cookie and never sees the portal's token. The work is done by
``python -m cupola.lab.notebooks``, so that a server that is never asked carries nothing for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import ApiPath, to_os_path
from tornado import web
from typing_extensions import override

from cupola.lab.notebooks.results import newest

__all__ = ["handlers"]

SECONDS = 120
"""A file system that is slow makes the first import of a session slow."""
_OPTIONS = {"cpus", "memory", "time", "engine"}
_JOB = re.compile(r"[a-z][a-z0-9-]{0,39}")


class NotebookHandler(APIHandler):
    """Looks at a notebook and starts it as a job."""

    auth_resource = "cupola_notebooks"

    @override
    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Say what can be changed in a notebook."""
        path = self._path(self.get_argument("path"))
        await self._answer({"do": "look", "path": str(path)})

    @override
    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Start a notebook as a job; the base class has checked the XSRF token."""
        body = self.get_json_body() or {}
        path, parameters, options = (body.get(name) for name in ("path", "parameters", "options"))
        if not isinstance(path, str) or not isinstance(parameters, dict) or not isinstance(options, dict):
            raise web.HTTPError(400, "a path, parameters and options are needed")
        if not options.keys() <= _OPTIONS or not all(isinstance(text, str) for text in parameters.values()):
            raise web.HTTPError(400, "parameters are texts, and options are cpus, memory, time and engine")
        await self._answer(
            {"do": "start", "path": str(self._path(path)), "parameters": parameters, "options": options}
        )

    def _path(self, said: str) -> Path:
        return find(self.contents_manager.root_dir, said)

    async def _answer(self, asked: dict[str, Any]) -> None:
        told = await ask(asked)
        self.set_status(told.pop("status", 200))
        if "id" in told:
            told["page"] = page(told["id"])
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(told))


class ResultHandler(APIHandler):
    """Says where the result of a job is, as the Lab's own path."""

    auth_resource = "cupola_notebooks"
    _track_activity = False

    @override
    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer with the newest result of the job that ran a notebook."""
        job = self.get_argument("job")
        if _JOB.fullmatch(job) is None:
            raise web.HTTPError(400, "this is no job's id")
        root = Path(self.contents_manager.root_dir)
        path = find(str(root), self.get_argument("path"))
        found = await asyncio.to_thread(newest, path.parent, path, job)
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps({"result": found.relative_to(root).as_posix() if found else ""}))


def find(root: str, said: str) -> Path:
    """Return the file that the Lab calls `said`.

    Raises
    ------
    tornado.web.HTTPError
        It lies outside of what the Lab shows.
    """
    path = Path(os.path.normpath(to_os_path(ApiPath(said), root)))
    if not path.is_relative_to(root) or path.suffix != ".ipynb":
        raise web.HTTPError(404, "there is no such notebook")
    return path


def page(job: str) -> str:
    """Return the address of a job's page, as the browser has it."""
    api = urlsplit(os.environ.get("CUPOLA_API_URL", "")).path.rstrip("/")
    return f"{api.removesuffix('/api')}/jobs/{job}"


async def ask(asked: dict[str, Any]) -> dict[str, Any]:
    """Let a process of its own do it, and return what it says."""
    process = await asyncio.create_subprocess_exec(
        os.environ.get("CUPOLA_PYTHON") or sys.executable,
        # A file of the user's next to the notebook must not stand in for a library.
        "-P",
        "-m",
        "cupola.lab.notebooks",
        cwd=Path(asked["path"]).parent if Path(asked["path"]).parent.is_dir() else None,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SECONDS):
            out, _ = await process.communicate(json.dumps(asked).encode())
        told = json.loads(out.splitlines()[-1])
    except TimeoutError:
        problem = "It takes too long to start the job: look at the jobs page before you try again."
        return {"problem": problem, "status": 503}
    except (IndexError, ValueError):
        problem = "The notebook could not be handed on: the session's log says why."
        return {"problem": problem, "status": 500}
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    return told if isinstance(told, dict) else {"problem": "There was no answer.", "status": 500}


def handlers(base_url: str) -> list[tuple[Any, ...]]:
    """Return what the server extension adds to the Jupyter server.

    Parameters
    ----------
    base_url
        Path of the Jupyter server, with a slash at its end.
    """
    root = re.escape(base_url)
    return [
        (rf"{root}cupola/api/notebooks", NotebookHandler),
        (rf"{root}cupola/api/notebooks/result", ResultHandler),
    ]
