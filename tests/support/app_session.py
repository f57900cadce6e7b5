"""A session of kind ``web`` as a real process, a tool for it, and the part of a hub that its door asks."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import psutil

from support.ports import free_port

PREFIX = "/user/maria/topcat-1/"
SCOPE = "access:servers!server=maria/topcat-1"
TOOL = Path(__file__).with_name("app_tool.py")
PATIENCE = 240
QUICK = """
import sys
from cupola.lab.app import door, session
door.ASK_AGAIN = session.ASK_AGAIN = 1
sys.exit(session.main(sys.argv[1:]))
"""
"""The same program, that asks the hub about its visitors each second."""


class DoorHub:
    """Answers who a token belongs to, exchanges codes, and takes reports of the last use."""

    def __init__(self, port=0):
        self.people = {}
        self.reports = []
        self.codes = {}
        self.asked = 0
        self.visits = {}  # what the portal allows whom: "full" or "view"
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_args):
                pass

            def answer(self, status, body):
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self):
                where = urlsplit(self.path)
                if where.path == "/portal/sessions/topcat-1/access":
                    person = parse_qs(where.query)["person"][0]
                    return self.answer(200, {"person": person, "access": hub.visits.get(person)})
                token = self.headers.get("Authorization", "").removeprefix("token ")
                hub.asked += 1
                if token in hub.people:
                    return self.answer(200, hub.people[token])
                return self.answer(403, {"message": "Forbidden"})

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.path.endswith("/activity"):
                    hub.reports.append((self.headers.get("Authorization"), json.loads(body)))
                    return self.answer(200, {})
                code = parse_qs(body.decode())["code"][0]
                if code not in hub.codes:
                    return self.answer(400, {"error": "invalid_grant"})
                return self.answer(200, {"access_token": hub.codes.pop(code), "token_type": "Bearer"})

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def person(self, name, *scopes):
        token = f"token-of-{name}"
        self.people[token] = {
            "kind": "user",
            "name": name,
            "admin": False,
            "groups": [],
            "scopes": list(scopes),
        }
        return token

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class AppSession:
    """``python -P -m cupola.lab.app`` with a hub's variables."""

    PROGRAM = None

    def __init__(self, hub, folder, command=None, **more):
        self.port = free_port()
        self.folder = folder
        self.log = folder / "session.log"
        self.clients = []
        self.address = f"http://127.0.0.1:{self.port}"
        self.url = self.address + PREFIX
        env = {name: os.environ[name] for name in ("PATH", "LANG", "SSL_CERT_FILE") if name in os.environ}
        env |= {
            "HOME": str(folder),
            "JUPYTERHUB_API_TOKEN": "token-of-the-session",
            "JUPYTERHUB_API_URL": f"http://127.0.0.1:{hub.port}/hub/api",
            "JUPYTERHUB_ACTIVITY_URL": f"http://127.0.0.1:{hub.port}/hub/api/users/maria/activity",
            "JUPYTERHUB_BASE_URL": "/",
            "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-maria-topcat-1",
            "JUPYTERHUB_OAUTH_ACCESS_SCOPES": json.dumps([SCOPE, "access:servers!user=maria"]),
            "JUPYTERHUB_OAUTH_CALLBACK_URL": PREFIX + "oauth_callback",
            "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
            "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{self.port}{PREFIX}",
            "JUPYTERHUB_SERVER_NAME": "topcat-1",
            "JUPYTERHUB_USER": "maria",
            "CUPOLA_API_URL": f"http://127.0.0.1:{hub.port}/portal",
            "CUPOLA_SESSION": "topcat-1",
            **more,
        }
        command = command or [sys.executable, str(TOOL), "{port}"]
        program = ["-c", self.PROGRAM] if self.PROGRAM else ["-m", "cupola.lab.app"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", *program, "--", *command],
                env=env,
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def ready(self):
        self.until(self._listens)
        return self

    def _listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def until(self, question):
        end = time.monotonic() + PATIENCE
        while not question():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.02)

    def get(self, path="", **kwargs):
        return httpx.get(self.url + path, **kwargs)

    def said(self):
        return self.log.read_text(errors="replace")

    def stop(self):
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def close(self):
        for client in self.clients:
            client.close()
        started = []
        with contextlib.suppress(psutil.Error):
            started = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        for process in started:
            # Killed like this it leaves its tool behind, as it does on a machine without containers.
            with contextlib.suppress(psutil.Error):
                process.kill()


def sign_in(session, hub, name, *scopes):
    """Go through the sign-in as a browser does; return a client that has the cookie."""
    hub.person(name, *scopes)
    client = httpx.Client(base_url=session.address, follow_redirects=False)
    session.clients.append(client)
    first = client.get(PREFIX)
    assert first.status_code == 302
    where = urlsplit(first.headers["location"])
    assert where.path == "/hub/api/oauth2/authorize"
    state = parse_qs(where.query)["state"][0]
    code = secrets.token_hex(8)
    hub.codes[code] = f"token-of-{name}"
    back = client.get(PREFIX + "oauth_callback", params={"code": code, "state": state})
    assert back.status_code == 302, back.text
    return client
