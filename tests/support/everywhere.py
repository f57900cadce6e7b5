"""Somebody who is signed in wherever one can be: a page, an API token, a server, and a channel into it."""

from __future__ import annotations

import contextlib
import socket

import httpx

from support.signin import wait_until

__all__ = ["Everywhere", "hub_token", "sign_in"]


def sign_in(browser, method, next=""):  # noqa: A002 - as the address has it
    return browser.get(f"/hub/sign-in/{method}/start" + (f"?next={next}" if next else ""))


class Everywhere:
    """Fritz with everything open: a page, an API token, a server, and a channel into it."""

    def __init__(self, hub, fritz):
        self.hub, self.fritz = hub, fritz
        wait_until(lambda: (sign_in(fritz, "institute"), fritz.name)[1] == "fritz", 60)
        self.headers = {"Authorization": f"token {hub_token(fritz)}"}
        started = hub.as_portal("POST", "/users/fritz/servers/lab-1")
        assert started.status_code == 201, hub.log[-4000:]
        self.channel = open_channel(hub, "fritz")
        assert self.alive() == {"page", "token", "server", "channel"}

    def alive(self):
        """Return what still works."""
        found = {"page"} if self.fritz.name == "fritz" else set()
        token = httpx.get(f"{self.hub.address}/hub/api/user", headers=self.headers)
        found |= {"token"} if token.status_code == 200 and token.json()["name"] == "fritz" else set()
        user = self.hub.as_portal("GET", "/users/fritz?include_stopped_servers=1")
        found |= {"server"} if user.is_success and user.json()["servers"]["lab-1"]["ready"] else set()
        with contextlib.suppress(OSError):
            # What came until now is read away; then one more tick must come, or the end.
            self.channel.settimeout(0.01)
            with contextlib.suppress(TimeoutError):
                while self.channel.recv(4096):
                    pass
            self.channel.settimeout(60)
            found |= {"channel"} if self.channel.recv(100) else set()
        return found


def hub_token(browser):
    """Make a token as the page Tokens does."""
    page = browser.http.get(f"{browser.hub.address}/hub/token")
    assert page.status_code == 200
    xsrf = next(cookie.value for cookie in browser.http.cookies.jar if cookie.name == "_xsrf")
    made = browser.http.post(
        f"{browser.hub.address}/hub/api/users/{browser.name}/tokens",
        params={"_xsrf": xsrf},
        json={"note": "script"},
        headers={"Referer": f"{browser.hub.address}/hub/token", "Accept": "application/json"},
    )
    assert made.status_code == 201, made.text
    return made.json()["token"]


def open_channel(hub, name):
    """Open a connection into the stub that stands for a session."""
    file = hub.folder / "state" / "hub" / f"port-{name}"
    channel = socket.create_connection(("127.0.0.1", int(file.read_text())))
    channel.sendall(b"TICK\n")
    channel.settimeout(60)
    assert channel.recv(5).startswith(b"tick")
    return channel
