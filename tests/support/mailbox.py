"""A real mail server and a real server for webhooks, both on loopback, which keep what they get."""

from __future__ import annotations

import asyncio
import json
import threading
import warnings
from contextlib import asynccontextmanager, contextmanager
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.smtp import SMTP, AuthResult

__all__ = ["Hooks", "Mailbox", "hooks", "mailbox"]


class Mailbox:
    """Takes mail; ``refuse`` maps an address to the answer it gets, ``held`` lets the answer to a message wait."""

    def __init__(self):
        self.messages = []
        self.envelopes = []
        self.refuse = {}
        self.held = None
        self.port = 0
        self.new = asyncio.Event()

    async def handle_RCPT(self, _server, _session, envelope, address, _options):  # noqa: N802 - aiosmtpd's name
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 - aiosmtpd's name
        self.envelopes.append(envelope)
        self.messages.append(message_from_bytes(envelope.content, policy=policy.default))
        self.new.set()
        if self.held is not None:
            await self.held.wait()
        return "250 Taken"

    async def wait(self, count):
        while len(self.messages) < count:
            await self.new.wait()
            self.new.clear()
        return self.messages[count - 1]


@asynccontextmanager
async def mailbox(*, tls=None, implicit=False, user=None):
    """Run a mail server in this loop.

    Parameters
    ----------
    tls
        The server's side of the encryption: STARTTLS is asked for, or all is encrypted where `implicit`.
    user
        Name and password without which it takes nothing.
    """
    box = Mailbox()
    box.tried = []

    def authenticate(_server, _session, _envelope, _mechanism, data):
        box.tried.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=box.tried[-1] == user, handled=False)

    options = {"authenticator": authenticate, "auth_required": user is not None}
    if tls is not None and not implicit:
        options |= {"tls_context": tls, "require_starttls": True}
    options["auth_require_tls"] = tls is not None and not implicit
    loop = asyncio.get_running_loop()
    open_ones = []

    def protocol():
        with warnings.catch_warnings():
            # It does not know that all is encrypted already.
            warnings.simplefilter("ignore")
            open_ones.append(SMTP(box, hostname="localhost", **options))
        return open_ones[-1]

    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=tls if implicit else None)
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()
        for one in open_ones:
            if one.transport is not None:
                one.transport.abort()
        await asyncio.sleep(0)


class Hooks:
    """Keeps the requests; ``answer`` is the next answers' status, ``held`` lets them wait, ``headers`` go with them."""

    def __init__(self):
        self.requests = []
        self.answer = 200
        self.body = b"ok"
        self.headers = {}
        self.held = None
        self.new = threading.Condition()
        self.address = ""

    def wait(self, count, seconds=60):
        with self.new:
            assert self.new.wait_for(lambda: len(self.requests) >= count, seconds), self.requests
        return self.requests[count - 1]


@contextmanager
def hooks(tls=None):
    """Run a server for webhooks."""
    kept = Hooks()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with kept.new:
                kept.requests.append((self.path, self.headers, body, json.loads(body)))
                kept.new.notify_all()
            if kept.held is not None:
                kept.held.wait(60)
            self.send_response(kept.answer)
            for name, value in kept.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(kept.body)))
            self.end_headers()
            self.wfile.write(kept.body)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        # Whoever hangs up in the middle is no failure of the server.
        def handle_error(self, *_):
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    kept.port = server.server_port
    kept.address = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}/hook"
    try:
        yield kept
    finally:
        if kept.held is not None:
            kept.held.set()
        server.shutdown()
        server.server_close()
        thread.join(30)
