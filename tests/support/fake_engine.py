"""A Docker engine on a socket of its own, with the answers of Docker 20.10 on the wire; it runs nothing."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from http.server import BaseHTTPRequestHandler

GIB = 2**30


class FakeEngine(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Knows images and containers by what a test put into it.

    ``images`` are ids, ``containers`` are (platform key, session) by id, ``stats`` what they use by id.
    """

    daemon_threads = True

    def __init__(self, folder, *, cores=8, memory=16 * GIB):
        self.path = folder / "engine.sock"
        self.cores, self.memory = cores, memory
        self.images, self.containers, self.stats = [], {}, {}
        self.asked = []
        super().__init__(str(self.path), _Answers)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def host(self):
        return f"unix://{self.path}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self._thread.join()
        self.server_close()

    def answer(self, path):
        """Return what the engine says at `path`, or nothing."""
        if path == "/version":
            return {"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Version": "20.10.24"}
        if path == "/info":
            return {"NCPU": self.cores, "MemTotal": self.memory}
        if path == "/images/json":
            return [{"Id": image, "RepoTags": [], "Created": 1} for image in self.images]
        if path == "/containers/json":
            return [
                {"Id": ident, "Labels": {"cupola.platform": key, "cupola.session": session}}
                for ident, (key, session) in self.containers.items()
            ]
        if match := re.fullmatch(r"/containers/([^/]+)/stats", path):
            return self.stats.get(match[1])
        return None


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = re.sub(r"^/v[\d.]+", "", self.path.partition("?")[0])
        self.server.asked.append(path)
        said = self.server.answer(path)
        body = json.dumps(said if said is not None else {"message": "there is none"}).encode()
        self.send_response(404 if said is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "socket"  # there is no address on a Unix socket

    def log_message(self, *_):
        pass
