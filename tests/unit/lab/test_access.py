from __future__ import annotations

import json
from typing import ClassVar

import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from cupola.lab import visits
from cupola.lab.access import ViewersRead, _Answers, may_be_viewed
from cupola.lab.visits import Unanswered, Visits
from cupola.models.share import ShareAccess

SEEN = [
    "",
    "lab",
    "lab/tree/a folder/notebook.ipynb",
    "lab/workspaces/auto-k/tree/n.ipynb",
    "lab/api/settings/@jupyterlab/apputils-extension:themes",
    "lab/extensions/x/static/remoteEntry.js",
    "static/lab/main.js",
    "api",
    "api/me",
    "api/contents",
    "api/contents/folder/n.ipynb",
    "api/kernels",
    "api/kernels/01234567-89ab-cdef-0123-456789abcdef",
    "api/sessions",
    "api/kernelspecs",
    "api/events/subscribe",
    "files/picture.png",
    "cupola/api/guardian",
    "oauth_callback",
]
HIDDEN = [
    "api/kernels/01234567-89ab-cdef-0123-456789abcdef/channels",
    "api/kernels/../terminals",
    "api/terminals",
    "api/terminals/1",
    "terminals/websocket/1",
    "api/contentsx",
    "api/shutdown",
    "api/security/csp-report",
    "api/collaboration/room/x",
    "nbconvert/html/n.ipynb",
    "proxy/8080/",
    "proxy/absolute/8080/",
    "desktop/",
    "cupola/tiles/0/WebMercatorQuad/0/0/0.png",
    "cupola/api/jobs/a/cancel",
    "cupola/api/guardian/seen",
    "cupola/api/guardian/snapshot",
    "cupola/api/guardian/stop",
    "lsp/ws/python",
    "lab\n",
    "labx",
    "x/lab",
    "hub/logs",
    "metrics",
    "view/a.html",
    "tree",
]


class TestWhatViewersSee:
    @pytest.mark.parametrize("path", SEEN)
    def test_reading(self, path):
        assert may_be_viewed("GET", path)
        assert may_be_viewed("HEAD", path + "/")

    @pytest.mark.parametrize("path", HIDDEN)
    def test_whatever_is_not_on_the_list(self, path):
        assert not may_be_viewed("GET", path)

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PROPFIND", "get"])
    @pytest.mark.parametrize("path", SEEN)
    def test_anything_but_reading(self, method, path):
        assert not may_be_viewed(method, path)

    @pytest.mark.parametrize(
        ("access", "action", "allowed"),
        [
            (ShareAccess.VIEW, "read", True),
            (ShareAccess.VIEW, "write", False),
            (ShareAccess.VIEW, "execute", False),
            (ShareAccess.VIEW, "subscribe", False),
            (ShareAccess.FULL, "execute", True),
        ],
    )
    def test_actions(self, access, action, allowed):
        class Somebody:
            pass

        user = Somebody()
        user.access = access
        assert ViewersRead().is_authorized(None, user, action, "contents") is allowed


class TestAnswersOfTheHub:
    def test_the_owners_holds_for_long_and_all_others_for_seconds(self, monkeypatch):
        clock = [1000.0]
        monkeypatch.setattr("jupyterhub.services.auth.time.monotonic", lambda: clock[0])
        answers = _Answers("ada", 300)
        answers["hers"], answers["his"], answers["nobodys"] = {"name": "ada"}, {"name": "mike"}, None
        clock[0] += 9
        assert answers["his"] == {"name": "mike"}
        assert answers["nobodys"] is None
        clock[0] += 2
        for key in ("his", "nobodys"):
            with pytest.raises(KeyError):
                answers[key]
        clock[0] += 280
        assert answers["hers"] == {"name": "ada"}
        clock[0] += 20
        with pytest.raises(KeyError):
            answers["hers"]


class Portal(RequestHandler):
    """The portal's answer about a visitor, as it is in ``said`` just now."""

    said: ClassVar[dict[str, str | None]]
    asked: ClassVar[list[str]]
    down: ClassVar[bool]

    def get(self):
        assert self.request.headers["Authorization"] == "Bearer secret"
        person = self.get_argument("person")
        self.asked.append(person)
        if self.down:
            self.set_status(503)
            return
        self.finish(json.dumps({"person": person, "access": self.said.get(person)}))


@pytest.fixture
def portal(monkeypatch):
    monkeypatch.setattr(Portal, "said", {"mike": "full", "olga": "view"}, raising=False)
    monkeypatch.setattr(Portal, "asked", [], raising=False)
    monkeypatch.setattr(Portal, "down", False, raising=False)
    return Portal


class Place:
    """A session's view on visits, with a clock of its own."""

    def __init__(self, port):
        self.time = 0.0
        environ = {
            "JUPYTERHUB_USER": "ada",
            "CUPOLA_API_URL": f"http://127.0.0.1:{port}/api/",
            "JUPYTERHUB_API_TOKEN": "secret",
            "CUPOLA_SESSION": "lab-1",
        }
        self.visits = Visits(environ, clock=lambda: self.time)


@pytest.mark.asyncio
class TestVisits:
    async def ask(self, *steps):
        """Do `steps` (seconds to pass, then a person to ask about) and return the answers."""
        socket, port = bind_unused_port()
        server = HTTPServer(Application([(r"/api/sessions/lab-1/access", Portal)]))
        server.add_socket(socket)
        place, answers = Place(port), []
        try:
            for step in steps:
                if isinstance(step, float):
                    place.time += step
                elif callable(step):
                    step()
                else:
                    try:
                        answers.append(await place.visits.access(step))
                    except Unanswered:
                        answers.append("nobody knows")
        finally:
            server.stop()
            await server.close_all_connections()
        return answers

    async def test_the_portal_decides(self, portal):
        answers = await self.ask("mike", "olga", "eve", "ada", "a b&c=d/../x")
        assert answers == [ShareAccess.FULL, ShareAccess.VIEW, None, ShareAccess.FULL, None]
        assert portal.asked == ["mike", "olga", "eve", "a b&c=d/../x"]

    async def test_it_is_asked_again_after_ten_seconds(self, portal):
        end = lambda: portal.said.clear()  # noqa: E731, PLW0108 - one step of the list
        assert await self.ask("mike", end, 9.0, "mike", 2.0, "mike") == [
            ShareAccess.FULL,
            ShareAccess.FULL,
            None,
        ]

    async def test_while_it_restarts_visits_go_on_for_half_a_minute(self, portal):
        def down():
            portal.down = True

        answers = await self.ask("mike", down, 20.0, "mike", 11.0, "mike", "eve")
        assert answers == [ShareAccess.FULL, ShareAccess.FULL, "nobody knows", "nobody knows"]

    async def test_out_within_the_minute_whatever_happens(self):
        assert visits.WITHOUT_ANSWER_S + 2 * visits.ASK_AGAIN_S + visits._TIMEOUT_S < 60

    async def test_outside_of_the_platform_nobody_visits(self):
        assert await Visits({"JUPYTERHUB_USER": "ada"}).access("mike") is None
