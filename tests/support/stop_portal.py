"""A portal that hears what goes on in a session, and announces stops to it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from cupola.models.activity import Activity

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["StopPortal"]

TOKEN = "token-of-the-session"


class StopPortal:
    """Answers at an address of the loopback."""

    def __init__(self, session: str = "lab-7") -> None:
        self.session = session
        self.told: list[Activity] = []
        self.computing: list[list[str]] = []
        self.wishes: list[str] = []
        self.refuses: dict[str, tuple[int, str]] = {}
        """By address: status and sentence."""
        self.plan: dict[str, Any] | None = None
        self._due = 0.0
        self._change = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def environ(self) -> dict[str, str]:
        """What a session finds in its environment."""
        return {
            "CUPOLA_API_URL": f"http://127.0.0.1:{self._server.server_port}/api",
            "JUPYTERHUB_API_TOKEN": TOKEN,
            "CUPOLA_SESSION": self.session,
        }

    def announce(self, seconds: float, reason: str = "Nobody used it for 12 h.", **more: Any) -> None:
        """Plan a stop."""
        with self._change:
            self._due = time.monotonic() + seconds
            self.plan = {"reason": reason, **more}
            self._change.notify_all()

    def withdraw(self) -> None:
        """Plan nothing any more."""
        with self._change:
            self.plan = None
            self._change.notify_all()

    def answer(self, wait: float) -> dict[str, Any] | None:
        """Return the plan, at once or at its next change."""
        with self._change:
            before = self.plan
            self._change.wait_for(lambda: self.plan is not before, wait)
            if self.plan is None:
                return None
            left = self._due - time.monotonic()
            at = datetime.now(UTC) + timedelta(seconds=left)
            return {"at": at.isoformat(), "seconds": left, **self.plan}

    def wish(self, word: str) -> None:
        """Take what the owner wishes."""
        self.wishes.append(word)
        if word == "keep":
            self.withdraw()

    def until(self, condition: Callable[[Activity], Any], seconds: float = 60.0) -> Activity:
        """Wait until something is told, from now on."""
        end, number = time.monotonic() + seconds, len(self.told)
        while True:
            for activity in self.told[number:]:
                if condition(activity):
                    return activity
            if time.monotonic() > end:
                raise TimeoutError(f"not told: {self.told[-3:]}")
            time.sleep(0.05)

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


def _handler(portal: StopPortal) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, told: Any) -> None:
            content = json.dumps(told).encode()
            # Whoever asked may have been killed meanwhile.
            with contextlib.suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def take(self) -> None:
            address = urlsplit(self.path)
            place, word = f"/api/sessions/{portal.session}/", address.path.rpartition("/")[2]
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if word in portal.refuses:
                status, detail = portal.refuses[word]
                self.answer(status, {"detail": detail})
            elif self.headers["Authorization"] != f"Bearer {TOKEN}" or address.path != place + word:
                self.answer(401, {"detail": "Nobody is signed in."})
            elif (self.command, word) == ("PUT", "activity"):
                portal.told.append(Activity.model_validate_json(body))
                self.answer(200, portal.answer(float(parse_qs(address.query).get("wait", ["0"])[0])))
            elif (self.command, word) == ("PUT", "computing"):
                portal.computing.append(json.loads(body)["notebooks"])
                self.answer(200, None)
            elif self.command == "POST" and word in {"keep", "hibernate"}:
                portal.wish(word)
                self.answer(202, {"id": portal.session})
            else:
                self.answer(404, {"detail": "There is no such address."})

        do_PUT = do_POST = do_GET = take  # noqa: N815 - as its base class names them

        def log_message(self, *_: object) -> None:
            pass

    return Handler
