"""What pages ask of the journal."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web
from typing_extensions import override

from cupola.lab.guardian import is_on
from cupola.lab.guardian.folder import KernelFolder
from cupola.lab.guardian.pages import keeping
from cupola.lab.guardian.pages.away import BEAT_S, attendance, tell
from cupola.lab.guardian.pages.loss import find_loss
from cupola.lab.guardian.variables.snapshots import Restored, Snapshot, answer, ask
from cupola.models.share import ShareAccess

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

    from cupola.lab.guardian.journal.ledger import Execution, Ledger

__all__ = ["handlers", "start"]

SNAPSHOT_S = 30.0
LOOK_S = 0.2
RECENT_S = 60.0
"""So long ago an execution may have ended just while a page was opened or came back."""
_FIELDS = ("id", "cell", "state", "count", "started", "ended", "failed", "settled")


class _Handler(APIHandler):
    auth_resource = "kernels"

    def ledgers(self) -> list[Ledger]:
        """Return those of all kernels, as they are now."""
        manager: Any = self.kernel_manager
        found: list[Ledger] = manager.ledgers()
        for ledger in found:
            ledger.poll()
        return found

    def path(self) -> str:
        """Return the notebook that is asked for."""
        return str(self.get_query_argument("path", "")).strip("/")

    def kernel_of(self, path: str) -> KernelFolder | None:
        """Return the kernel that a notebook has now."""
        row = self.session_manager.cursor.execute(
            "SELECT kernel_id FROM session WHERE path=?", (path,)
        ).fetchone()
        found = str(row["kernel_id"]) if row else ""
        return KernelFolder.of(found) if found and found in self.kernel_manager else None


class GuardianHandler(_Handler):
    """What became of a notebook's cells."""

    @web.authenticated
    @authorized
    @override
    async def get(self) -> None:
        """Tell about the executions of the notebook ``path``, or without it of all where something happened."""
        if not is_on():
            self.finish({"on": False})
        elif path := self.path():
            self.finish(self._tell(path))
        else:
            self.finish({"on": True, "away": self._all_away()})

    def _tell(self, path: str) -> dict[str, Any]:
        ledgers, current = self.ledgers(), self.kernel_of(path)
        found = [(one, ledger.folder.kernel_id) for ledger in ledgers for one in ledger.of(path)]
        return {
            "on": True,
            "viewer": getattr(self.current_user, "access", None) is ShareAccess.VIEW,
            "kernel": self._tell_kernel(current),
            "executions": [
                {name: getattr(one, name) for name in _FIELDS}
                | {"kernel": kernel, "elsewhere": self._is_elsewhere(one, kernel), "recent": _is_recent(one)}
                for one, kernel in found
            ],
            "away": _away(path, [one for one, _ in found]),
            "lost": self._lost(path, ledgers, current),
        }

    def _is_elsewhere(self, one: Execution, kernel: str) -> bool:
        """Whether the page that asked is there, and will save what comes."""
        connection = self.settings.get("kernel_websocket_connection_class")
        return f"{kernel}:{one.session}" in getattr(connection, "_open_sessions", {})

    def _tell_kernel(self, folder: KernelFolder | None) -> dict[str, Any] | None:
        if folder is None:
            return None
        manager: Any = self.kernel_manager.get_kernel(folder.kernel_id)
        restored, kept = Restored.read(folder), Snapshot.read(folder)
        return {
            "id": folder.kernel_id,
            "state": manager.execution_state,
            "restored": restored.as_json() if restored else None,
            "kept": _tell_kept(kept) if kept else None,
        }

    def _lost(self, path: str, ledgers: list[Ledger], current: KernelFolder | None) -> dict[str, Any] | None:
        lost = find_loss(path, ledgers, current)
        return None if lost is None or attendance().has_read(path, lost["id"]) else lost

    def _all_away(self) -> list[dict[str, Any]]:
        by_path: dict[str, list[Execution]] = {}
        for ledger in self.ledgers():
            for path in {one.path for one in ledger.executions.values()}:
                by_path.setdefault(path, []).extend(ledger.of(path))
        told = [(path, _away(path, executions)) for path, executions in sorted(by_path.items()) if path]
        return [{"path": path} | news for path, news in told if news]


def _is_recent(one: Execution) -> bool:
    return one.ended is not None and time.time() - one.ended < RECENT_S


class SeenHandler(_Handler):
    """The news of a notebook were read."""

    @web.authenticated
    @authorized
    @override
    async def post(self) -> None:
        """Note it for the notebook ``path``, or only ``what``: ``away`` or ``lost``."""
        path, what = self.path(), str(self.get_query_argument("what", ""))
        if not path:
            raise web.HTTPError(400, "Say which notebook: ?path=")
        if what not in {"", "away", "lost"}:
            raise web.HTTPError(400, "There are news of the kinds 'away' and 'lost'.")
        if what != "lost":
            attendance().read(path)
        lost = find_loss(path, self.ledgers(), self.kernel_of(path)) if what != "away" else None
        if lost:
            attendance().read_of(path, lost["id"])
        self.finish({})


class SnapshotHandler(_Handler):
    """The variables of a kernel are stored now."""

    @web.authenticated
    @authorized
    @override
    async def post(self) -> None:
        """Ask the kernel ``{"kernel"}`` to store its variables, and tell what it stored."""
        name = str((self.get_json_body() or {}).get("kernel", ""))
        if name not in self.kernel_manager:
            raise web.HTTPError(404, "This kernel does not run any more.")
        folder = KernelFolder.of(name)
        try:
            token = ask(folder)
        except OSError as exc:
            raise web.HTTPError(507, f"The variables cannot be stored: {exc.strerror or exc}.") from exc
        end = time.monotonic() + SNAPSHOT_S
        while (said := answer(folder, token)) is None:
            if time.monotonic() > end:
                raise web.HTTPError(
                    504, "The kernel did not answer: it does not store variables, or is too busy."
                )
            await asyncio.sleep(LOOK_S)
        kept = Snapshot.read(folder)
        self.finish({"problem": said, "kept": _tell_kept(kept) if kept else None})


def _tell_kept(kept: Snapshot) -> dict[str, Any]:
    return {
        "time": kept.time,
        "after": kept.after,
        "whole": kept.whole,
        "variables": list(kept.variables),
        "modules": list(kept.modules),
        "left": [vars(one) for one in kept.left],
        "bytes": kept.bytes,
        "text": kept.sentence,
    }


def _away(path: str, executions: list[Execution]) -> dict[str, Any] | None:
    return tell(executions, attendance().absences(path))


def handlers(base_url: str) -> list[tuple[str, Any]]:
    """Return what the server extension adds to the Jupyter server.

    Parameters
    ----------
    base_url
        Path of the Jupyter server, with a slash at its end.
    """
    root = rf"{re.escape(base_url)}cupola/api/guardian"
    ours = [(root, GuardianHandler), (f"{root}/seen", SeenHandler), (f"{root}/snapshot", SnapshotHandler)]
    return [*ours, *keeping.handlers(base_url)]


def start(server: ServerApp) -> None:
    """Take up the kernels that run, and follow their journals."""
    if not is_on():
        return
    manager: Any = server.kernel_manager
    manager.adopt()
    loop = asyncio.get_event_loop()
    server.web_app.settings["cupola_guardian_watch"] = loop.create_task(manager.watch())
    keeping.start(server)
    server.web_app.settings["cupola_guardian_beat"] = loop.create_task(_beat())


async def _beat() -> None:
    while True:
        await asyncio.sleep(BEAT_S)
        attendance().beat()
