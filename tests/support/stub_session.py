"""What a session of the stub image runs: answers as a Jupyter server does, and does what a test tells it to.

It is copied into the image, so it stands on the standard library alone.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

PREFIX = os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "/")
PLACE = urlsplit(os.environ.get("JUPYTERHUB_SERVICE_URL", "http://0.0.0.0:8888/"))


def child(code: str) -> str:
    """Run `code` in a program of its own, as a kernel would."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr + ("" if done.returncode == 0 else f"\nexit {done.returncode}")


def inside(code: str) -> str:
    """Run `code` in the server itself."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        try:
            exec(code, {})  # noqa: S102 - that is what it is for
        except Exception:  # noqa: BLE001 - the test wants to see it
            traceback.print_exc(file=output)
    return output.getvalue()


class Handler(BaseHTTPRequestHandler):
    def answer(self, status: int, text: str, kind: str = "text/plain") -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-JupyterHub-Version", "6.1.1")
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        if self.path == f"{PREFIX}environment":
            self.answer(200, json.dumps(dict(os.environ)), "application/json")
        elif self.path.startswith(PREFIX):
            self.answer(200, "{}", "application/json")
        else:
            self.answer(404, "not mine")

    def do_POST(self) -> None:
        code = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path == f"{PREFIX}child":
            self.answer(200, child(code))
        elif self.path == f"{PREFIX}inside":
            self.answer(200, inside(code))
        else:
            self.answer(404, "not mine")

    def log_message(self, *_: object) -> None:
        pass


def main(arguments: list[str]) -> None:
    sys.stderr.write(f"stub session of {os.environ.get('USER')} {arguments}\n")
    sys.stderr.flush()
    ThreadingHTTPServer(("0.0.0.0", PLACE.port or 8888), Handler).serve_forever()  # noqa: S104


if __name__ == "__main__":
    main(sys.argv[1:])
