"""What the Lab tells its user by itself: how full the home is, and what became of installed packages.

Addresses of the Jupyter server for the small front end in ``labextension``; everything that takes time runs in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web
from typing_extensions import override

from cupola.exceptions import CupolaError
from cupola.lab.packages import Packages
from cupola.lab.storage import FULL_VARIABLE, sentence, size
from cupola.models.packages import Fate

if TYPE_CHECKING:
    from cupola.models.packages import PackagePlan

__all__ = ["LABEXTENSION", "PackageWatch", "handlers"]

LABEXTENSION = Path(__file__).parent / "labextension"
"""The front end, as JupyterLab finds it by ``LabApp.extra_labextensions_path``."""
_EVERY_S = 30.0
_FRESH_S = 20.0


class PackageWatch:
    """Keeps the lock up to date while the session runs, and knows what could be restored."""

    def __init__(self) -> None:
        # One thread: pip must not run twice at a time in one environment.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cupola-packages")
        self._plan: asyncio.Future[PackagePlan | None] | None = None
        self._restoring: asyncio.Future[PackagePlan | None] | None = None
        self._seen = 0.0

    def start(self) -> None:
        """Look at what is installed, now and again, until the server's loop ends."""
        loop = asyncio.get_event_loop()
        loop.call_soon(self._look)

    def _look(self) -> None:
        loop = asyncio.get_event_loop()
        loop.run_in_executor(self._thread, self._record)
        loop.call_later(_EVERY_S, self._look)

    def _record(self) -> None:
        with contextlib.suppress(CupolaError, OSError):
            here = Packages.here()
            changed = here.site.stat().st_mtime
            if changed != self._seen:
                here.record()
                self._seen = changed

    def state(self) -> dict[str, Any]:
        """Return what can be said now, without waiting for anything."""
        if self._restoring is not None:
            return self._told(self._restoring, "restoring", "restored")
        if self._plan is None:
            self._plan = self._run(_plan)
        return self._told(self._plan, "looking", "planned")

    def restore(self) -> dict[str, Any]:
        """Begin to restore; a second press of the button begins no second one."""
        if self._restoring is None or self._restoring.done():
            self._restoring = self._run(lambda: Packages.here().restore())
        return self.state()

    def dismiss(self) -> dict[str, Any]:
        """Do without."""
        self._restoring = self._run(_dismiss)
        return {"state": "dismissed"}

    def _run(self, work: Any) -> asyncio.Future[PackagePlan | None]:
        future: asyncio.Future[PackagePlan | None] = asyncio.get_event_loop().run_in_executor(
            self._thread, work
        )
        return future

    @staticmethod
    def _told(future: asyncio.Future[PackagePlan | None], before: str, after: str) -> dict[str, Any]:
        if not future.done():
            return {"state": before}
        error = future.exception()
        if error is not None:
            return {"state": "failed", "text": str(error)}
        plan = future.result()
        if plan is None:
            return {"state": "settled"}
        return {
            "state": after,
            "text": told(plan, done=after == "restored"),
            "plan": plan.model_dump(mode="json"),
        }


def _plan() -> PackagePlan | None:
    try:
        return Packages.here().plan()
    except CupolaError:
        return None  # a clean session has no packages


def _dismiss() -> None:
    Packages.here().dismiss()


def told(plan: PackagePlan, *, done: bool = False) -> str:
    """Return a plan as one sentence for a notification."""
    again, there, never = plan.of(Fate.SAME, Fate.OTHER), plan.of(Fate.THERE), plan.of(Fate.NOT)
    names = ", ".join(package.name for package in again[:5]) + (" ..." if len(again) > 5 else "")  # noqa: PLR2004
    parts = []
    if again:
        parts.append(f"{len(again)} {'are installed' if done else 'can be installed here again'} ({names})")
    if there:
        parts.append(f"{len(there)} this version has")
    if never:
        parts.append(f"{len(never)} cannot be: " + ", ".join(package.name for package in never[:5]))
    return (
        f"Of {len(plan.packages)} packages that you installed on version {plan.label}: "
        + "; ".join(parts)
        + "."
    )


class StorageHandler(APIHandler):
    """How full the home is, as the portal knows it."""

    auth_resource = "cupola_storage"
    # A Lab that asks now and then must not keep a forgotten session alive.
    _track_activity = False

    @override
    def initialize(self, kept: dict[str, Any]) -> None:
        """Take where an answer is kept for a while."""
        self.kept = kept

    @override
    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer with a word for the status bar, and how urgent it is."""
        if time.monotonic() > self.kept.get("until", 0.0):
            self.kept["answer"] = await asyncio.to_thread(_storage)
            self.kept["until"] = time.monotonic() + _FRESH_S
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(self.kept["answer"]))


def _storage() -> dict[str, Any]:
    from cupola.client import from_environment

    try:
        with from_environment() as portal:
            usages = portal.storage()
    except CupolaError as exc:
        full = os.environ.get(FULL_VARIABLE) == "1"
        return {"word": "", "fullness": "full" if full else "fine", "text": str(exc)}
    home = next((usage for usage in usages if usage.kind == "home"), None)
    if home is None:
        return {"word": "", "fullness": "fine", "text": ""}
    limit = f" of {size(home.limit_bytes)}" if home.limit_bytes else ""
    return {
        "word": f"Home: {size(home.used_bytes)}{limit}",
        "fullness": home.fullness.value,
        "text": "\n".join(sentence(usage) for usage in usages),
    }


class PackagesHandler(APIHandler):
    """What became of the packages of another version."""

    auth_resource = "cupola_packages"
    _track_activity = False

    @override
    def initialize(self, watch: PackageWatch) -> None:
        """Take what knows."""
        self.watch = watch

    @override
    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Say what is known; asked again while ``state`` is looking or restoring."""
        self._answer(self.watch.state())

    @override
    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Restore or dismiss, as ``deed`` says; the base class has checked the XSRF token."""
        body = self.get_json_body() or {}
        deeds = {"restore": self.watch.restore, "dismiss": self.watch.dismiss}
        if body.get("deed") not in deeds:
            raise web.HTTPError(400, 'the field "deed" must be "restore" or "dismiss"')
        self._answer(deeds[body["deed"]]())

    def _answer(self, told: dict[str, Any]) -> None:
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(told))


def handlers(base_url: str) -> list[tuple[Any, ...]]:
    """Return what the server extension adds to the Jupyter server.

    Parameters
    ----------
    base_url
        Path of the Jupyter server, with a slash at its end.
    """
    watch, root = PackageWatch(), re.escape(base_url)
    watch.start()
    return [
        (rf"{root}cupola/api/storage", StorageHandler, {"kept": {}}),
        (rf"{root}cupola/api/packages", PackagesHandler, {"watch": watch}),
    ]
