"""Whatever the portal answers, the client can ask for."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import AsyncGenerator

import httpx
import pytest

from cupola.client import AsyncClient
from cupola.client import _async as client_module
from cupola.config import Config
from cupola.exceptions import CupolaError
from cupola.models.base import Model
from cupola.models.job import JobAction
from cupola.models.team import Role
from cupola.platform.app import create_app
from cupola.platform.storage.hub.settings import HubSettings

OTHERS = {
    # Sessions tell and ask these with a token of their own; no person does.
    ("PUT", "/sessions/{}/computing"),
    ("GET", "/sessions/{}/access"),
    # `team` has its members.
    ("GET", "/teams/{}/members"),
    # The page of administrators alone.
    ("GET", "/people"),
    ("POST", "/people"),
}
"""What needs no method."""


def told(kind):
    """Return something that a parameter of this kind takes."""
    kinds = typing.get_args(kind) or (kind,)
    if JobAction in kinds:
        return JobAction.HOLD
    if Role in kinds:
        return Role.READER
    if int in kinds:
        return 7
    model = next((one for one in kinds if isinstance(one, type) and issubclass(one, Model)), None)
    return "thing" if model is None else model.model_construct()


async def asked_by_the_client():
    """Call every method and return what was asked, with a mark for each name or number."""
    seen = set()

    def note(request):
        path = request.url.path.removeprefix("/services/cupola/api")
        seen.add((request.method, re.sub(r"/(thing|7|hold)(?=/|$)", "/{}", path)))
        return httpx.Response(404, json={"type": "x/not-found", "title": "", "status": 404, "detail": ""})

    transport = httpx.MockTransport(note)
    hints = vars(client_module) | {"AsyncGenerator": AsyncGenerator}
    async with AsyncClient("http://portal/services/cupola/api", "t", transport=transport) as client:
        for name, method in vars(AsyncClient).items():
            if name.startswith("_") or not inspect.isfunction(method):
                continue
            kinds = typing.get_type_hints(method, hints)
            names = [one for one in inspect.signature(method).parameters if one != "self"]
            call = getattr(client, name)(**{one: told(kinds[one]) for one in names})
            with pytest.raises(CupolaError):
                await (anext(call) if inspect.isasyncgen(call) else call)
    return {(method, path) for method, path in seen if not path.startswith("/services/cupola/internal")}


def answered_by_the_portal(tmp_path):
    environment = {
        f"JUPYTERHUB_{name}": "http://x" for name in ("API_URL", "API_TOKEN", "CLIENT_ID", "SERVICE_URL")
    }
    scopes = '["access:services!service=cupola"]'
    environment |= {
        "JUPYTERHUB_SERVICE_PREFIX": "/services/cupola/",
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": scopes,
        "CUPOLA_INTERNAL_TOKEN": "x",
    }
    app = create_app(
        Config.model_validate({"state": str(tmp_path)}), HubSettings.from_environment(environment)
    )
    return {
        (method.upper(), re.sub(r"\{[^}]+\}", "{}", path).removeprefix("/services/cupola/api"))
        for path, methods in app.openapi()["paths"].items()
        for method in methods
    }


@pytest.mark.asyncio
async def test_the_client_has_a_method_for_whatever_the_portal_answers(tmp_path, monkeypatch):
    monkeypatch.setattr("cupola.client._calls._PAUSES", (0.0,))
    asked, answered = await asked_by_the_client(), answered_by_the_portal(tmp_path)
    assert answered >= OTHERS
    assert asked == answered - OTHERS
