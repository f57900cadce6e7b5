"""Sessions of a real platform that can be killed: processes of this machine, or containers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psutil
from playwright.sync_api import Error

from cupola.exceptions import CupolaError
from cupola.hub.processes import read_record
from cupola.models.session import LaunchRequest, Session, SessionState
from cupola.processes import marked_with
from support.platform import OWNER
from support.survive_labs import Lab, guardians
from support.survive_page import Machine, Notebook, until
from support.survive_wire import Wire
from support.visits import signed_in

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    import nbformat

    from support.docker import Engine
    from support.platform import Platform

__all__ = ["ContainerLab", "SessionLab"]

MARK = "CUPOLA_SESSION"


def apart(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine in a thread of its own: Playwright keeps a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


def _server_below(keeper: psutil.Process) -> psutil.Process:
    """Return the Jupyter server: forked by whoever keeps it, so with the same command; or that one itself."""
    forked = [one for one in keeper.children() if one.cmdline() == keeper.cmdline()]
    return forked[0] if forked else keeper


class SessionLab(Lab):
    """The Lab of a session under the process driver."""

    name = "ours"

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.folder = platform.paths.home(OWNER)
        self.wire = Wire(platform.port)
        self.session = ""

    def client(self, method: str, *arguments: Any) -> Any:
        """Call the portal as the session's owner."""

        async def call() -> Any:
            async with signed_in(self.platform) as (_, client):
                return await getattr(client, method)(*arguments)

        return apart(call)

    def start(self) -> SessionLab:
        """Launch a session and wait until it is ready."""
        self._wait(self.client("launch", LaunchRequest(datalab="lab")).id)
        return self

    def _wait(self, session: str) -> None:
        def ready() -> bool:
            seen = self.client("session", session)
            assert seen.state not in {SessionState.FAILED, SessionState.STOPPED}, (
                f"{seen}\n{self.platform.logs()}"
            )
            return seen.state is SessionState.READY

        until(ready, "the session is ready", 180)
        self.session = session

    @property
    def url(self) -> str:
        return f"{self.platform.address}/user/{OWNER}/{self.session}/"

    def machine(self) -> Machine:
        # All that it sends to the platform goes over the wire, under the platform's own address.
        way = f"MAP 127.0.0.1:{self.platform.port} 127.0.0.1:{self.wire.port}"
        return Machine(f"--host-resolver-rules={way}")

    def open(self, machine: Machine, name: str) -> Notebook:
        page = machine.page()
        page.goto(self.platform.link())
        page.wait_for_url("**/services/cupola/")
        page.goto(f"{self.url}lab/workspaces/{name.partition('.')[0]}/tree/{name}")
        page.wait_for_url(re.compile(r"/lab"))
        return Notebook(page)

    def processes(self) -> list[psutil.Process]:
        """Return the processes of the session."""
        found = {one.pid: one for one in marked_with(MARK, self.session)}
        record = read_record(self.platform.paths.running / f"{self.session}.json")
        # A forked one shows the environment of the fork server, so it is known by its pid.
        if record is not None and (first := record.find()) is not None:
            with contextlib.suppress(psutil.Error):
                found |= {one.pid: one for one in (first, *first.children(recursive=True))}
        return list(found.values())

    def server(self) -> psutil.Process:
        """Return the process of the Jupyter server."""
        record = read_record(self.platform.paths.running / f"{self.session}.json")
        assert record is not None, "the session runs"
        first = record.find()
        return _server_below(first)

    def kill_server(self) -> None:
        self.server().kill()

    def back(self) -> None:
        until(self._answers, lambda: f"the session answers again:\n{self.platform.logs()}")

    def _answers(self) -> bool:
        import httpx

        with contextlib.suppress(httpx.HTTPError):
            # Not signed in: whoever answers that it must be known who asks is the Jupyter server itself.
            answer = httpx.get(f"{self.url}api", timeout=5, trust_env=False)
            return answer.status_code == httpx.codes.OK and "version" in answer.text
        return False

    def lose(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def again(self) -> None:
        """Start the session again as its page's button does, once the platform has seen that it is gone."""

        def ended() -> bool:
            return self.client("session", self.session).state in {SessionState.FAILED, SessionState.STOPPED}

        until(ended, "the platform sees that the session is gone", 180)
        self._wait(self.client("restart_session", self.session).id)

    def hibernate(self) -> Session:
        """Hibernate the session, and return it when it sleeps."""

        def asleep() -> Session | None:
            found: Session = self.client("session", self.session)
            return found if found.hibernated and found.state is SessionState.STOPPED else None

        self.client("hibernate_session", self.session)
        return until(asleep, lambda: f"it sleeps: {self.client('session', self.session)}", 180)

    def wake(self) -> None:
        """Wake the session and wait until it is ready: it is the same one."""
        woken = self.client("wake_session", self.session).id
        assert woken == self.session
        self._wait(woken)

    def stop(self) -> None:
        self.wire.close()
        with contextlib.suppress(CupolaError, AssertionError, Error):
            self.client("stop_session", self.session)
            end = time.monotonic() + 60
            while self.client("session", self.session).state is not SessionState.STOPPED:
                assert time.monotonic() < end
                time.sleep(0.3)

    def guardians(self) -> list[psutil.Process]:
        return guardians(self.session, MARK)


class ContainerLab(SessionLab):
    """The Lab of a session under the docker driver."""

    def __init__(self, platform: Platform, engine: Engine) -> None:
        super().__init__(platform)
        self.engine = engine

    @property
    def container(self):
        (found,) = self.engine.client.containers.list(filters={"label": f"cupola.session={self.session}"})
        return found

    def processes(self) -> list[psutil.Process]:
        """Return those in the container, as the host sees them."""
        rows = self.container.top(ps_args="-eo pid")["Processes"]
        found = []
        for (pid,) in rows:
            with contextlib.suppress(psutil.Error):
                found.append(psutil.Process(int(pid)))
        return found

    def server(self) -> psutil.Process:
        inside = {one.pid: one for one in self.processes()}
        (init,) = [one for one in inside.values() if one.ppid() not in inside]
        # Docker's own first process, then whoever keeps the server; orphans are children of the first one too.
        keeper = min(init.children(), key=psutil.Process.create_time)
        return _server_below(keeper)

    def write(self, name: str, book: nbformat.NotebookNode) -> None:
        super().write(name, book)
        home = self.folder.stat()
        os.chown(self.notebook_file(name), home.st_uid, home.st_gid)

    def lose(self) -> None:
        self.container.kill()

    def guardians(self) -> list[psutil.Process]:
        return [one for one in self.processes() if "guardian/kernels/watch.py" in " ".join(one.cmdline())]
