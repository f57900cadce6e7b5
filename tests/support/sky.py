"""Sky maps in a real Chromium, with tiles from a real Jupyter server: the widget's page, without the rest of a Lab.

WebGL 2, which Aladin Lite draws with, works in headless Chromium without a graphics card: SwiftShader takes over by itself
under ``--disable-gpu``. ``--enable-unsafe-swiftshader`` says so to versions that only do it when asked.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from support.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["OPTIONS", "Server", "pixels", "run_server", "show", "wait_until"]

OPTIONS = ("--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
BASE = "/user/ada/lab-1/"
DARK = "--jp-ui-font-color1: #eee; --jp-layout-color1: #222; --jp-border-color1: #777"
"""What a dark Lab says of its colours."""
SECONDS = 180

PAGE = """<!doctype html><html><head><meta charset="utf-8"><title>sky</title><style>%(css)s
body {margin: 0; background: %(background)s; %(theme)s}</style><link rel="icon" href="data:,"></head>
<body><div id="here" style="width: 900px"></div><script id="state" type="application/json">%(state)s</script>
<script type="module">
const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const revive = (key, value) => (value && value.cupolaBytes !== undefined ? bytes(value.cupolaBytes) : value);
class Model {
  constructor(state) { this.state = state; this.heard = []; this.saved = 0; }
  get(name) { return this.state[name]; }
  set(name, value) { this.state[name] = value; this.tell(name); }
  save_changes() { this.saved += 1; }
  on(names, react) { for (const name of names.split(" ")) this.heard.push([name, react]); }
  off(names, react) { this.heard = this.heard.filter(([name, known]) => !(names.split(" ").includes(name) && known === react)); }
  tell(name) { for (const [known, react] of [...this.heard]) if (known === `change:${name}`) react(); }
}
window.model = new Model(JSON.parse(document.getElementById("state").textContent, revive));
const module = await import("./sky-widget.js");
window.stop = await module.default.render({model: window.model, el: document.getElementById("here")});
window.begun = true;
</script></body></html>"""


@dataclass
class Server:
    """A Jupyter server with Cupola's addresses."""

    url: str
    token: str
    folder: Path

    def get(self, path, **options):
        """Fetch an address below the server's base."""
        headers = {"Authorization": f"token {self.token}", **options.pop("headers", {})}
        return httpx.get(self.url + path, headers=headers, timeout=SECONDS, **options)


@contextlib.contextmanager
def run_server(folder):
    """Start a Jupyter server; its folder of chains is ``runtime``."""
    port, token = free_port(), secrets.token_hex()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "CUPOLA"))},
        "HOME": str(folder),
        "CUPOLA_RUNTIME": str(folder / "runtime"),
        "JUPYTER_TOKEN": token,
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder / "jupyter"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
    }
    command = [
        sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser", f"--port={port}",
        "--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0", f"--ServerApp.base_url={BASE}",
        f"--ServerApp.root_dir={folder}", "--ServerApp.jpserver_extensions", "cupola.lab.extension=True",
        # Takes seconds to load, and has nothing to do here.
        "--ServerApp.jpserver_extensions", "voila.server_extension=False",
    ]  # fmt: skip
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    server = Server(f"http://127.0.0.1:{port}{BASE}", token, folder)
    try:
        end = time.monotonic() + SECONDS
        while True:
            with contextlib.suppress(httpx.TransportError):
                if server.get("api/status").status_code == 200:
                    break
            assert time.monotonic() < end, log.read_text()
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def state_of(sky):
    """Return the state of a sky map as JSON for the page."""

    def plain(value):
        return {"cupolaBytes": base64.b64encode(bytes(value)).decode()}

    names = [
        name
        for name in sky.keys
        if not name.startswith("_") and name not in {"layout", "tabbable", "tooltip"}
    ]
    return json.dumps({name: getattr(sky, name) for name in names}, default=plain).replace("<", "\\u003c")


def show(browser, server, sky, *, dark=False, offline=False):
    """Open a page with a sky map; return it, the requests it made and what Chromium complained about."""
    page = browser.new_page(viewport={"width": 900, "height": 760})
    page.set_extra_http_headers({"Authorization": f"token {server.token}"})
    page.set_default_timeout(SECONDS * 1000)
    requests, complaints = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    html = PAGE % {
        "css": sky._css,
        "state": state_of(sky),
        "background": "#111" if dark else "#fff",
        "theme": DARK if dark else "",
    }
    page.route("**/sky-page.html", lambda route: route.fulfill(body=html, content_type="text/html"))
    page.route("**/sky-widget.js", lambda route: route.fulfill(body=sky._esm, content_type="text/javascript"))
    if offline:
        page.route(
            lambda url: not url.startswith((server.url, "data:", "blob:")), lambda route: route.abort()
        )
    page.goto(f"{server.url}sky-page.html")
    page.wait_for_function("window.begun")
    told = page.locator("[data-ready=true], .cupola-sky-problem:not([hidden])").first
    with contextlib.suppress(Exception):
        told.wait_for()
    words = (
        page.locator(".cupola-sky-problem").all_inner_texts()
        if page.locator("[data-ready=true]").count() == 0
        else []
    )
    assert page.locator("[data-ready=true]").count(), (words, complaints, requests)
    return page, requests, complaints


def wait_until(page, condition, what="", seconds=SECONDS):
    """Wait until a function tells the truth, with the page alive meanwhile."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"waited in vain: {what}"
        page.wait_for_timeout(100)
    return found


def pixels(page, picture=None):
    """Return what the map shows as an array (rows, columns, 3), without its buttons."""
    import io

    import numpy as np
    from PIL import Image

    body = page.locator(".cupola-sky-frame").screenshot(path=picture)
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))
