"""A tool for tests of the door: says what reaches it, echoes websockets, and dies when it is told to."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tornado import ioloop, web, websocket


class Page(web.RequestHandler):
    def get(self, path):
        self.write({"path": path, "uri": self.request.uri, "headers": dict(self.request.headers.get_all())})

    def post(self, path):
        if path == "exit":
            os._exit(int(self.request.body))
        if path == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        self.write(json.dumps({"got": len(self.request.body)}))


class Moved(web.RequestHandler):
    def get(self):
        self.redirect("/elsewhere")


class Echo(websocket.WebSocketHandler):
    def on_message(self, message):
        self.write_message(message, binary=isinstance(message, bytes))


# Something it started and does not look after, as tools do.
child = subprocess.Popen(["sleep", "1000"])
Path("child.pid").write_text(str(child.pid))
if "--stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
base = sys.argv[2].rstrip("/") if len(sys.argv) > 2 and sys.argv[2].startswith("/") else ""
routes = [(f"{base}/moved", Moved), (f"{base}/(?:ws|rfb)", Echo), (f"{base}/(.*)", Page)]
web.Application(routes).listen(int(sys.argv[1]), "127.0.0.1")
sys.stdout.write("the tool is up\n")
sys.stdout.flush()
ioloop.IOLoop.current().start()
