"""A hub in memory, with the answers of JupyterHub 6.1 on the wire."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

import httpx

from cupola.exceptions import CupolaError
from cupola.hub.signin.api import act, describe

PREFIX = "/services/cupola/"
ACCESS = "access:services!service=cupola"


@dataclass
class FakeServer:
    ready: bool = False
    pending: str | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)
    failure: str | None = None
    last_activity: str = "2026-11-21T10:00:00.000000Z"


@dataclass
class FakeUser:
    admin: bool = False
    groups: list[str] = field(default_factory=list)
    servers: dict[str, FakeServer] = field(default_factory=dict)


class FakeHub:
    """The part of the hub's API that the portal uses.

    ``mode`` says how a start goes: ``quick`` (201), ``slow`` (202; `finish` ends it), ``refused`` (403 of the
    spawner), ``busy`` (429 once, then quick). ``down`` makes every request fail like a hub that is not there.
    """

    def __init__(self):
        self.users = {"maria": FakeUser(groups=["mars"]), "paul": FakeUser(admin=True)}
        self.tokens = {}
        self.groups = {}
        self.properties = {}
        self.shares = {}
        self.codes = {}
        self.mode = "quick"
        self.down = False
        self.may_create = True
        self.admission = None
        self.mails = {}
        self.log = []
        self.on_start = None
        for name in self.users:
            self.add_token(f"token-of-{name}", name)

    def add_token(self, token, name, *, kind="user", scopes=(ACCESS, "self")):
        self.tokens[token] = (kind, name, list(scopes))

    def transport(self):
        return httpx.MockTransport(self.handle)

    def calls(self, method, pattern):
        return [path for verb, path in self.log if verb == method and re.search(pattern, path)]

    async def handle(self, request):  # noqa: C901, PLR0911, PLR0912 - one per address
        await asyncio.sleep(0)
        path = unquote(request.url.path).removeprefix("/hub/api")
        self.log.append((request.method, path))
        if self.down:
            raise httpx.ConnectError("All connection attempts failed", request=request)
        if path == "/oauth2/token":
            return self.exchange(request)
        token = request.headers.get("authorization", "").removeprefix("token ")
        if path == "/user":
            return self.who(token)
        if token != "portal-token":
            return problem(403, "Action is not authorized with current scopes")
        if path == "/cupola/people":
            return self.people(request)
        if path == "/cupola/mail":
            return httpx.Response(200, json={"mail": self.mails.get(json.loads(request.content)["name"], "")})
        if path == "/users":
            return self.list_users(request)
        if path.startswith("/groups"):
            return self.group(request, path.removeprefix("/groups").strip("/"))
        if path.startswith("/shares/"):
            return self.share(request, *path.removeprefix("/shares/").split("/"))
        name, _, server = path.removeprefix("/users/").partition("/servers/")
        if request.method == "GET" and not server:
            known = name in self.users
            return httpx.Response(200, json={"name": name}) if known else problem(404, "Not Found")
        if request.method == "POST" and not server:
            return self.create(name)
        if name not in self.users:
            return problem(404, "Not Found")
        if server.endswith("/progress"):
            return self.progress(name, server.removesuffix("/progress"))
        return await {"GET": self.get, "POST": self.start, "DELETE": self.stop}[request.method](
            name, server, request
        )

    def who(self, token):
        if token not in self.tokens:
            return problem(403, "Forbidden")
        kind, name, scopes = self.tokens[token]
        user = self.users.get(name, FakeUser())
        return httpx.Response(
            200,
            json={
                "kind": kind,
                "name": name,
                "admin": user.admin,
                "groups": user.groups,
                "scopes": scopes,
                "token_id": "a1",
                "session_id": "s1",
            },
        )

    def exchange(self, request):
        form = {key: values[0] for key, values in parse_qs(request.content.decode()).items()}
        assert form["client_id"] == "service-cupola"
        assert form["client_secret"] == "portal-token"
        assert form["redirect_uri"] == PREFIX + "oauth_callback"
        assert len(form["code_verifier"]) >= 43
        token = self.codes.pop(form["code"], None)
        if token is None:
            return httpx.Response(400, json={"error": "invalid_grant"})
        return httpx.Response(200, json={"access_token": token, "token_type": "Bearer"})

    def people(self, request):
        """Answer as the real handler does, with the real decisions."""
        if request.method == "POST":
            try:
                act(self.admission, json.loads(request.content))
            except CupolaError as error:
                return httpx.Response(error.status, json={"message": str(error)})
        return httpx.Response(200, json=describe(self.admission))

    def group(self, request, path):  # noqa: PLR0911 - one per question
        name, _, part = path.partition("/")
        if not name:
            listed = [self.group_model(each) for each in sorted(self.groups)]
            return httpx.Response(200, json={"items": listed, "_pagination": {"next": None}})
        if request.method == "POST" and not part:
            if name in self.groups:
                return problem(409, f"Group {name} already exists")
            self.groups[name] = []
            return httpx.Response(201, json=self.group_model(name))
        if name not in self.groups:
            return problem(404, f"No such group: {name}")
        if part == "properties":
            self.properties[name] = json.loads(request.content)
        elif part == "users":
            users = json.loads(request.content)["users"]
            if unknown := [user for user in users if user not in self.users]:
                return problem(400, f"No such user: {unknown[0]}")
            kept = [user for user in self.groups[name] if user not in users]
            self.groups[name] = kept + (users if request.method == "POST" else [])
        elif request.method == "DELETE":
            del self.groups[name]
            self.properties.pop(name, None)
            return httpx.Response(204)
        return httpx.Response(200, json=self.group_model(name))

    def group_model(self, name):
        return {
            "kind": "group",
            "name": name,
            "users": self.groups[name],
            "roles": [],
            "properties": self.properties.get(name, {}),
        }

    def share(self, request, owner, server):
        if server not in self.users[owner].servers:
            return problem(404, f"No such server: {owner}/{server}")
        found = self.shares.setdefault((owner, server), set())
        if request.method == "GET":
            listed = [{kind: {"name": name}} for kind, name in sorted(found)]
            return httpx.Response(200, json={"items": listed, "_pagination": {"next": None}})
        body = json.loads(request.content)
        who = ("user", body["user"]) if "user" in body else ("group", body["group"])
        if request.method == "PATCH":
            found.discard(who)
            return httpx.Response(200, json={})
        assert body["scopes"] == [f"access:servers!server={owner}/{server}"]
        if who[1] not in (self.users if who[0] == "user" else self.groups):
            return problem(400, f"No such {who[0]}: {who[1]}")
        found.add(who)
        return httpx.Response(200, json={})

    def create(self, name):
        if not self.may_create:
            return problem(403, "Action is not authorized with current scopes")
        self.users[name] = FakeUser()
        return httpx.Response(201, json={"name": name})

    def list_users(self, request):
        assert request.url.params["state"] == "active"
        offset, limit = int(request.url.params["offset"]), int(request.url.params["limit"])
        active = [name for name, user in sorted(self.users.items()) if user.servers]
        items = [
            {
                "kind": "user",
                "name": name,
                "servers": {s: model(s, v) for s, v in self.users[name].servers.items()},
            }
            for name in active[offset : offset + limit]
        ]
        more = {"offset": offset + limit, "limit": limit} if offset + limit < len(active) else None
        return httpx.Response(200, json={"items": items, "_pagination": {"next": more, "total": len(active)}})

    async def get(self, name, server, _request):
        found = self.users[name].servers.get(server)
        return httpx.Response(200, json=model(server, found)) if found else problem(404, "Not Found")

    async def start(self, name, server, request):
        assert json.loads(request.content) == {"user_options": {}}
        assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", server)
        assert len(server) <= 30
        servers = self.users[name].servers
        if server in servers and servers[server].ready:
            return problem(400, f"{name}:{server} is already running")
        if server in servers and servers[server].pending == "check":
            return problem(400, f"{name}:{server} is pending check")
        if self.mode == "busy":
            self.mode = "quick"
            return problem(429, "Too many users trying to log in right now.")
        if self.on_start is not None:
            await self.on_start(server)
        if self.mode == "refused":
            return problem(403, "The portal did not decide to start this.")
        servers.setdefault(server, FakeServer(ready=self.mode == "quick", pending=None))
        if self.mode == "slow":
            servers[server].pending = "spawn"
            return httpx.Response(202)
        return httpx.Response(201)

    def finish(self, name, server, failure=None):
        found = self.users[name].servers[server]
        found.ready, found.pending, found.failure = failure is None, None, failure
        if failure is not None:
            del self.users[name].servers[server]
        found.done.set()

    def progress(self, name, server):
        found = self.users[name].servers.get(server)
        if found is None:
            return problem(404, "Not Found")
        if found.pending != "spawn" and not found.ready:
            return problem(400, f"{name}:{server} is not starting...")

        async def events():
            yield b"\n\n"
            yield b'data: {"progress": 60, "message": "Loading Jupyter"}\n\n'
            await found.done.wait()
            last = {"progress": 100, "ready": True, "message": "Server ready"}
            if found.failure:
                last = {"progress": 100, "failed": True, "message": f"Spawn failed: {found.failure}"}
            yield f"data: {json.dumps(last)}\n\n".encode()

        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=events())

    async def stop(self, name, server, request):
        assert json.loads(request.content) == {"remove": True}
        found = self.users[name].servers.pop(server, None)
        if found is None:
            return problem(404, f"{name} has no server named '{server}'")
        found.failure = "Spawn cancelled"
        found.done.set()
        return httpx.Response(204)


def model(name, server):
    return {
        "name": name,
        "ready": server.ready,
        "pending": server.pending,
        "stopped": not server.ready and not server.pending,
        "last_activity": server.last_activity,
        "started": "2026-11-21T09:00:00.000000Z",
        "url": f"/user/x/{name}/",
        "user_options": {},
    }


def problem(status, message):
    return httpx.Response(status, json={"status": status, "message": message})
