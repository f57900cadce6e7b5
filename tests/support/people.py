"""People who sign in to a real platform, each with a browser's cookies of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from html import unescape
from pathlib import Path

import httpx

from cupola.monitor.visitor import Visitor
from support.platform import OWNER

GUESTS = Path(__file__).parent / "guests"


def link_of(platform, name):
    """Return a new sign-in link for `name`, who may come in from now on."""
    if name == OWNER:
        return platform.link()
    users(platform, "add", name)
    return users(platform, "link", name).strip()


def users(platform, verb, name):
    """Run ``cupola users VERB NAME``; return what it prints."""
    command = [sys.executable, "-m", "cupola.cli", "users", verb, "--config", str(platform.config_file), name]
    made = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=platform.environment()
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return made.stdout


class Guest:
    """Somebody who is signed in: ``visitor`` has the cookies of a browser, ``api`` a token."""

    def __init__(self, name, visitor, api):
        self.name = name
        self.visitor = visitor
        self.api = api

    async def call(self, method, path, status=None, **body):
        """Call the portal's API; return what it answers."""
        answer = await self.api.request(method, path, json=body or None)
        assert status is None or answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    async def in_session(self, session, method, path, **options):
        """Ask a session's own server, as a browser does."""
        prefix = session["url"].partition(f"/{session['id']}/")[0] + f"/{session['id']}/"
        headers = {}
        if method != "GET":
            headers["X-XSRFToken"] = self.visitor._cookie("_xsrf", prefix)
        return await self.visitor.http.request(method, prefix + path, headers=headers, **options)

    async def open_lab(self, session):
        """Open the Lab of a session, and say yes to the hub's question whether to go to somebody else's."""
        answer = await self.in_session(session, "GET", "lab")
        if answer.url.path.endswith("/oauth2/authorize") and answer.status_code == httpx.codes.OK:
            # The form has several fields of one name, as the page of the hub itself has them.
            fields = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', answer.text)
            form = {name: [unescape(value) for key, value in fields if key == name] for name, _ in fields}
            answer = await self.visitor.http.post(str(answer.url), data=form)
        return answer


@asynccontextmanager
async def people(platform, *names):
    """Sign in all of `names`."""
    async with AsyncExitStack() as stack:
        found = []
        for name in names:
            visitor = await stack.enter_async_context(Visitor(platform.address))
            await visitor.sign_in(link_of(platform, name))
            await visitor.http.get("/hub/token")
            made = await visitor.http.post(
                f"/hub/api/users/{name}/tokens",
                headers={"X-XSRFToken": visitor._cookie("_xsrf", "/hub/")},
                json={"note": "test"},
            )
            api = httpx.AsyncClient(
                base_url=f"{platform.address}/services/cupola/api",
                headers={"Authorization": f"token {made.json()['token']}"},
                timeout=60,
                trust_env=False,
            )
            found.append(Guest(name, visitor, await stack.enter_async_context(api)))
        yield found
