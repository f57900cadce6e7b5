"""Notebooks as files: read with what their kernels said, and brought up to date while no page has them open."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from tornado.web import HTTPError
from typing_extensions import override

from cupola.lab.guardian.documents import filing
from cupola.lab.guardian.documents.lineage import Change, Lineage, mark_of
from cupola.lab.guardian.documents.moved import place_before
from cupola.lab.guardian.documents.notebook import Shown, cell_of, merge, newest, verdicts
from cupola.lab.guardian.folder import kernels_folder
from cupola.lab.guardian.journal.widgets import STATE, needed
from cupola.lab.guardian.pages.away import attendance

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from cupola.lab.guardian.journal.execution import Execution
    from cupola.lab.guardian.journal.ledger import Ledger

__all__ = ["SurvivingContents"]

LOOK_S = 1.0
EVERY_S = 10.0
"""While outputs flow, a file is written this often."""
AFTER_SAVE_S = 5.0
"""Who saves is there, whatever its connection says."""
AFTER_PROBLEM_S = 60.0
ALL_S = 30.0
"""Between two looks for kernels of other sessions that have ended."""
CUT_S = 60.0

Sign = tuple[tuple[str, int, str, str], ...]


class SurvivingContents(AsyncLargeFileManager):
    """The files of a session."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._lineage = Lineage(kernels_folder().parent / "documents.json")
        self._locks: dict[str, asyncio.Lock] = {}
        self._saved: dict[str, float] = {}
        self._written: dict[str, tuple[Sign, float]] = {}
        self._said: set[str] = set()

    # -- what kernels say -------------------------------------------------------------------------------------

    def _ledgers(self, *, polled: bool = True) -> list[Ledger]:
        manager: Any = getattr(self.parent, "kernel_manager", None)
        found: list[Ledger] = manager.ledgers() if hasattr(manager, "ledgers") else []
        for ledger in found if polled else ():
            ledger.poll()
        return found

    @staticmethod
    def _to_show(path: str, ledgers: Iterable[Ledger]) -> list[tuple[Execution, Ledger]]:
        """Return the executions that say what the cells of a notebook show, unless the file does."""
        of = {one: ledger for ledger in ledgers for one in ledger.begun_of(path)}
        return [(one, of[one]) for one in newest(of) if not one.settled]

    def _since(self, path: str) -> float | None:
        """Return when somebody else has changed a file last."""
        try:
            info = Path(self._get_os_path(path)).stat()
        except OSError:
            return None
        change = self._lineage.of(path, info)
        return change.told_time if change else max(info.st_mtime, info.st_ctime)

    # -- what pages ask ---------------------------------------------------------------------------------------

    @override
    async def get(self, path: str, content: bool = True, *args: Any, **options: Any) -> dict[str, Any]:
        model: dict[str, Any] = await super().get(path, content, *args, **options)
        if model.get("type") == "notebook":
            path = path.strip("/")
            if content:
                await self._follow(path, model["content"])
                self._complete(path, model["content"])
            self._tell_as_before(path, model)
        return model

    async def _follow(self, path: str, notebook: Any) -> None:
        """Give a notebook that was moved where no server saw it what it had under its name of before."""
        ledgers = self._ledgers()
        before = self._place_before(path, notebook, ledgers)
        if not before or self._is_open(before, self._to_show(before, ledgers)):
            return
        self.log.info("cupola: %s was moved to %s", before, path)
        self._note_name(before, path)
        sessions: Any = getattr(self.parent, "session_manager", None)
        if sessions is None:
            return
        for row in sessions.cursor.execute(
            "SELECT session_id FROM session WHERE path=?", (before,)
        ).fetchall():
            # One whose kernel is gone is gone, too.
            with contextlib.suppress(HTTPError):
                await sessions.update_session(row["session_id"], path=path, name=path.rpartition("/")[2])

    def _place_before(self, path: str, notebook: Any, ledgers: list[Ledger]) -> str:
        try:
            changed = Path(self._get_os_path(path)).stat().st_ctime
        except OSError:
            return ""
        return place_before(
            path, notebook, changed, ledgers, lambda one: Path(self._get_os_path(one)).exists()
        )

    def _complete(self, path: str, notebook: Any) -> None:
        found = self._to_show(path, self._ledgers())
        if found:
            self._merge(path, notebook, found)
            # A page has those of a kernel that lives from the kernel.
            _add_widgets(notebook, [(one, ledger) for one, ledger in found if not ledger.folder.alive])

    def _merge(self, path: str, notebook: Any, found: list[tuple[Execution, Ledger]]) -> bool:
        shown = [Shown.of(one) for one, _ in found]
        changed = merge(notebook, shown, self._since(path))
        for one in shown:
            cell = cell_of(notebook, one.cell, one.code)
            if cell is not None and cell.get("cell_type") == "code":
                # It was run by the owner of this session, a moment ago: nobody else put this in.
                cell.setdefault("metadata", {})["trusted"] = True
        return bool(changed)

    def _tell_as_before(self, path: str, model: dict[str, Any]) -> None:
        """Tell of a file that only we have changed what was told of it before."""
        try:
            info = Path(self._get_os_path(path)).stat()
        except OSError:
            return
        change = self._lineage.of(path, info, str(model.get("hash") or ""))
        if change is not None:
            model["last_modified"] = datetime.fromtimestamp(change.told_time, tz=UTC)
            if model.get("hash"):
                model["hash"] = change.told_hash

    @override
    async def save(self, model: dict[str, Any], path: str = "") -> dict[str, Any]:
        path = path.strip("/")
        if model.get("type") != "notebook" or "content" not in model:
            return dict(await super().save(model, path))
        base = model.pop("base", None)
        async with self._lock(path):
            if base and await self._hash_of(path) not in {base, ""}:
                raise HTTPError(409, f"{path} was changed since this page has seen it")
            self._saved[path] = time.monotonic()
            # What was said by now; what is said while it is written no page can have saved.
            ledgers = self._ledgers()
            found = {one: ledger for ledger in ledgers for one in (*ledger.of(path), *ledger.begun_of(path))}
            settled = verdicts(model["content"], found)
            saved = dict(await super().save(model, path))
            for one, reason in settled:
                self._settle(found[one], one, reason)
            # Under the lock: afterwards it may be what somebody else has saved.
            return saved | {"hash": await self._hash_of(path), "hash_algorithm": self.hash_algorithm}

    async def _hash_of(self, path: str) -> str:
        """Return the hash of a file as pages know it; nothing where it is not there."""
        try:
            found = await self.get(path, content=False, require_hash=True)
        except HTTPError:
            return ""
        return str(found.get("hash") or "")

    def _settle(self, ledger: Ledger, one: Execution, reason: str) -> None:
        try:
            ledger.settle(one, reason)
        except OSError as error:
            self.log.warning("cupola: it cannot be noted that a notebook was saved: %s", error)

    def settle(self, path: str, names: Iterable[str]) -> None:
        """Note that a page has saved a notebook after it had heard the ends of some executions.

        Parameters
        ----------
        path
            Of the notebook.
        names
            Of the executions.
        """
        for ledger in self._ledgers():
            for name in names:
                one = ledger.executions.get(name)
                if one is not None and one.path == path and one.state.over and not one.settled:
                    self._settle(ledger, one, "saved")

    @override
    async def rename_file(self, old_path: str, new_path: str) -> None:
        await super().rename_file(old_path, new_path)
        self._note_name(old_path.strip("/"), new_path.strip("/"))

    def _note_name(self, before: str, after: str) -> None:
        self._lineage.rename(before, after)
        attendance().renamed(before, after)
        for ledger in self._ledgers():
            ledger.rename(before, after)

    @override
    async def delete_file(self, path: str) -> None:
        await super().delete_file(path)
        self._lineage.forget(path.strip("/"))

    def _lock(self, path: str) -> asyncio.Lock:
        return self._locks.setdefault(path, asyncio.Lock())

    # -- while no page is there -------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Bring files up to date until the server ends."""
        looked = cut = 0.0
        while True:
            await asyncio.sleep(LOOK_S)
            with self._telling("notebooks cannot be kept up to date"):
                now = time.monotonic()
                everybody, looked = (True, now) if now - looked > ALL_S else (False, looked)
                ledgers = self._ledgers(polled=everybody)
                for path in {path for ledger in ledgers for path in ledger.paths() if path}:
                    with self._telling(f"{path} cannot be kept up to date"):
                        await self.keep_one(path, ledgers)
                if now - cut > CUT_S:
                    cut = now
                    for ledger in ledgers:
                        ledger.cut()

    @contextlib.contextmanager
    def _telling(self, what: str) -> Any:
        """Go on whatever happens, and say it once."""
        try:
            yield
        except Exception as error:
            if what not in self._said:
                self._said.add(what)
                self.log.warning("cupola: %s: %s", what, error, exc_info=not isinstance(error, OSError))

    async def keep_one(self, path: str, ledgers: list[Ledger] | None = None) -> bool:
        """Bring a notebook's file to what its kernels said, unless a page does; say whether it was written."""
        found = self._to_show(path, ledgers if ledgers is not None else self._ledgers())
        if not found:
            return False
        sign = tuple((one.id, one.last, one.state.value, one.settled) for one, _ in found)
        before, when = self._written.get(path, ((), 0.0))
        age = time.monotonic() - when
        if sign == before or (age < EVERY_S and any(not one.state.over for one, _ in found)):
            return False
        if self._is_open(path, found) or not all(ledger.writes for _, ledger in found):
            return False
        self._written[path] = (sign, time.monotonic())
        try:
            async with self._lock(path):
                return await self._write(path, found)
        except (OSError, filing.ChangedError) as error:
            # The journal has it; the file gets it when it can.
            self._written[path] = ((), time.monotonic() + AFTER_PROBLEM_S - EVERY_S)
            self.log.warning("cupola: %s is not brought up to date: %s", path, error)
            return False

    def _is_open(self, path: str, found: list[tuple[Execution, Ledger]]) -> bool:
        """Whether a page has the notebook: then the file is the page's."""
        if time.monotonic() - self._saved.get(path, float("-inf")) < AFTER_SAVE_S:
            return True
        manager: Any = self.parent.kernel_manager if self.parent is not None else None
        kernels = {ledger.folder.kernel_id for _, ledger in found}
        sessions = getattr(self.parent, "session_manager", None)
        if sessions is not None:
            rows = sessions.cursor.execute("SELECT kernel_id FROM session WHERE path=?", (path,)).fetchall()
            kernels |= {str(row["kernel_id"]) for row in rows}
        connections = getattr(manager, "_kernel_connections", {})
        return any(connections.get(kernel, 0) > 0 for kernel in kernels)

    async def _write(self, path: str, found: list[tuple[Execution, Ledger]]) -> bool:
        place, root = Path(self._get_os_path(path)), Path(self.root_dir)
        if not filing.may_write(place, root):
            return False
        algorithm = str(self.hash_algorithm)
        filed = await asyncio.to_thread(filing.read, place, algorithm)
        if filed is None:
            return False
        self.mark_trusted_cells(filed.notebook, path)
        changed = self._merge(path, filed.notebook, found)
        if not _add_widgets(filed.notebook, found) and not changed:
            return False
        filed = replace(filed, notebook=filing.as_notebook(filed.notebook))
        with self._telling("notebooks cannot be signed"):
            if self.notary.check_cells(filed.notebook):
                self.notary.sign(filed.notebook)
        earlier = self._lineage.of(path, filed.info, filed.hash)

        def note(new_hash: str, info: os.stat_result) -> None:
            told = (earlier.told_hash, earlier.told_time) if earlier else (filed.hash, filed.info.st_mtime)
            self._lineage.note(path, Change(*told, new_hash, mark_of(info)))

        await asyncio.to_thread(filing.write, filed, algorithm, note)
        return True


def _add_widgets(notebook: Any, found: list[tuple[Execution, Ledger]]) -> bool:
    """Give a notebook the state of the widgets that it shows, for when their kernel is gone."""
    models: dict[str, Any] = {}
    for one, ledger in found:
        models |= ledger.widgets.shown_by(one.fold.outputs)
    if not models:
        return False
    widgets = notebook.setdefault("metadata", {}).setdefault("widgets", {})
    state = widgets.setdefault(STATE, {"version_major": 2, "version_minor": 0, "state": {}})
    before = dict(state.get("state") or {})
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    state["state"] = needed(before | models, outputs)
    return bool(state["state"] != before)
