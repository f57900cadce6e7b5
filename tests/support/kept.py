"""A session without a hub: a keeper, the Jupyter server that it starts again, and kernels below guardians."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from support.guarded import GuardedServer

if TYPE_CHECKING:
    from typing import Any

__all__ = ["KeptSession"]

SESSION = """
import sys
from cupola.lab import session

def serve(args):
    session.pass_over_home()
    # There is no hub to be asked who comes in.
    hubs = ("identity_provider_class", "authorizer_class")
    settings = [one for one in session.settings() if not any(word in one for word in hubs)]
    sys.argv = ["jupyter-lab", "--no-browser", *settings, *args]
    from jupyterlab.labapp import main
    main()

session.serve = serve
session.main(sys.argv[1:])
"""


@dataclass
class KeptSession(GuardedServer):
    """As the hub starts one, but anybody with the token may come in."""

    more: tuple[str, ...] = ()
    """Settings for the Jupyter server."""

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "CUPOLA_VERSION": "sha256:" + "ab" * 32}

    def launch(self) -> None:
        """Start it, and wait for nothing."""
        self.runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = (
            f"--ServerApp.port={self.port}",
            "--ServerApp.port_retries=0",
            "--ServerApp.base_url=/user/ada/",
        )
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", SESSION, *own, *self.more],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def start(self) -> None:
        self.launch()
        self.until(self._answers, "it does not answer")

    @property
    def server(self) -> psutil.Process:
        """The Jupyter server of just now."""
        return self.until(self._server, "there is no server")  # type: ignore[no-any-return]

    def _server(self) -> Any:
        assert self.process is not None
        with_kernels = psutil.Process(self.process.pid).children()
        found = [one for one in with_kernels if not _is_guardian(one)]
        return found[0] if found else None

    def kill_server(self) -> None:
        """End the server alone as a crash does, and wait for the next one."""
        before = self.server
        before.kill()
        self.until(lambda: self._server() not in {before, None}, "no other server is started")
        self.until(self._answers, "the other server does not answer")

    def left(self) -> list[psutil.Process]:
        """Return what runs of the session."""
        found = []
        for one in psutil.process_iter():
            try:
                if (
                    one.environ().get("CUPOLA_SESSION") == self.session
                    and one.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(one)
            except psutil.Error:
                continue
        return found

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Tell the keeper to end; return its exit code."""
        assert self.process is not None
        os.kill(self.process.pid, number)
        return self.process.wait(60)

    def clean(self) -> None:
        for one in self.left():
            try:
                one.kill()
            except psutil.Error:
                continue
        if self.process is not None:
            self.process.wait()


def _is_guardian(process: psutil.Process) -> bool:
    try:
        return any(word.endswith("watch.py") for word in process.cmdline())
    except psutil.Error:
        return True
